#include "collectives/bucket_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace longhaul {
namespace {

// Pieces and chunks lie side by side and cover every element once.
TEST(BucketLayoutTest, EveryElementHasOnePlace) {
  for (const int ranks : {1, 2, 3, 4, 7, 16}) {
    for (const size_t count : {0, 1, 2, 6, 7, 1023, 1024, 70001, 524288, 524289, 6553600}) {
      const BucketLayout layout(count, 4, ranks);
      size_t next = 0;
      for (size_t i = 0; i < layout.piece_count(); ++i) {
        const ElementRange piece = layout.piece(i);
        EXPECT_EQ(piece.first, next);
        for (Rank owner = 0; owner < ranks; ++owner) {
          const ElementRange chunk = layout.chunk(piece, owner);
          EXPECT_EQ(chunk.first, next);
          next += chunk.count;
        }
        EXPECT_EQ(piece.first + piece.count, next);
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(BucketLayoutTest, PiecesAreSmallAndSharesAreEven) {
  const BucketLayout layout(6553600, 4, 4);  // PyTorch's 25 MiB
  EXPECT_EQ(layout.piece_count(), 13U);
  for (size_t i = 0; i < layout.piece_count(); ++i) {
    const ElementRange piece = layout.piece(i);
    EXPECT_LE(piece.count * 4, BucketLayout::kPieceBytes + 4096 * 4);
    EXPECT_EQ(piece.first % 4096, 0U) << "blocks are not cut";
    size_t smallest = piece.count;
    size_t largest = 0;
    for (Rank owner = 0; owner < 4; ++owner) {
      smallest = std::min(smallest, layout.chunk(piece, owner).count);
      largest = std::max(largest, layout.chunk(piece, owner).count);
    }
    EXPECT_LE(largest - smallest, 2 * 4096U);
  }
}

// What a receive has to take, whatever the bucket.
TEST(BucketLayoutTest, NoFrameCarriesMoreThanTheMost) {
  for (const int ranks : {2, 3, 4, 7, 64}) {
    for (const size_t width : {2, 4, 8}) {
      for (const size_t count :
           {1, 8191, 16385, 131072, 262143, 262145, 500000, 1048577, 6553600}) {
        const BucketLayout layout(count, width, ranks);
        for (size_t i = 0; i < layout.piece_count(); ++i) {
          const ElementRange piece = layout.piece(i);
          const bool whole = takes_one_round(piece.count * width, ranks);
          for (Rank owner = 0; owner < ranks; ++owner) {
            const size_t carried = whole ? piece.count : layout.chunk(piece, owner).count;
            EXPECT_LE(carried * width, most_elements_bytes(ranks));
          }
        }
      }
    }
    EXPECT_LE(most_elements_bytes(ranks), BucketLayout::kPieceBytes + (128U << 10));
  }
}

TEST(BucketLayoutTest, AnEmptyBucketIsOneEmptyPiece) {
  const BucketLayout layout(0, 8, 3);
  EXPECT_EQ(layout.piece_count(), 1U);
  EXPECT_EQ(layout.piece(0).count, 0U);
}

TEST(BucketLayoutTest, TwoRanksAndSmallPiecesTakeOneRound) {
  EXPECT_TRUE(takes_one_round(100 << 20, 2));
  EXPECT_TRUE(takes_one_round(0, 4));
  EXPECT_FALSE(takes_one_round(1 << 20, 3));
  EXPECT_FALSE(takes_one_round(0, 7));
}

}  // namespace
}  // namespace longhaul
