#include "codec/tiled_codec.h"

#include <algorithm>

#include "base/check.h"
#include "codec/convert.h"

namespace longhaul {
namespace {

constexpr size_t kWidestElement = 8;  // fp64

Failure in_tile(size_t tile, const Failure& failure) {
  return {failure.kind, str_cat("tile ", tile, ": ", failure.message)};
}

// Calls one(stored, first element, elements) for each tile of a checked payload.
template <typename One>
Result<void> for_each_tile(const PayloadShape& shape, ByteSpan payload, const One& one) {
  // After this check the directory adds up to the payload's size, so no tile reaches beyond it, and
  // every tile has a format byte.
  const Result<void> checked = check_payload(shape, payload);
  if (!checked) return checked;
  size_t at = shape.head_bytes();
  for (size_t tile = 0; tile < shape.tiles(); ++tile) {
    const size_t first = tile * shape.tile_elements;
    const size_t count = std::min<size_t>(shape.tile_elements, shape.element_count - first);
    const ByteSpan stored = payload.subspan(at, stored_tile_bytes(tile, payload));
    at += stored.size();
    if (stored[0] == kRawTile && stored.size() != 1 + count * element_bytes(shape.type)) {
      return in_tile(tile, {ErrorKind::kCorrupt,
                            str_cat(stored.size() - 1, " bytes for ", count, " raw elements")});
    }
    const Result<void> done = one(stored, first, count);
    if (!done) return in_tile(tile, done.failure());
  }
  return {};
}

}  // namespace

TiledCodec::TiledCodec(const CodecSpec& spec, SimdLevel level, uint32_t tile_elements,
                       std::unique_ptr<TileCoder> coder)
    : spec_(spec),
      level_(level),
      tile_elements_(tile_elements),
      coder_(std::move(coder)),
      overflow_(most_coded_bytes(tile_elements, kWidestElement)) {}

PayloadShape TiledCodec::shape(ElementType type, size_t element_count) const {
  return {spec_.kind, type, element_count, tile_elements_, spec_.block};
}

size_t TiledCodec::max_payload_bytes(ElementType type, size_t element_count) const {
  return shape(type, element_count).most_payload_bytes();
}

size_t TiledCodec::encode(ElementType type, ByteSpan elements, MutableByteSpan payload,
                          const EncodeContext& context) {
  const size_t width = element_bytes(type);
  LONGHAUL_CHECK(elements.size() % width == 0U);
  LONGHAUL_CHECK(check_supports(spec_, type).ok());
  const PayloadShape made = shape(type, elements.size() / width);
  LONGHAUL_CHECK(payload.size() >= made.most_payload_bytes());
  write_payload_header(made, payload.data());
  size_t written = made.head_bytes();
  EncodeContext at = context;
  for (size_t tile = 0; tile < made.tiles(); ++tile) {
    const ByteSpan mine = elements.first(std::min(elements.size(), tile_elements_ * width));
    const size_t stored = encode_tile(at, type, mine, payload.subspan(written));
    write_directory_entry(tile, stored, payload.data());
    written += stored;
    elements = elements.subspan(mine.size());
    at.first_element += tile_elements_;
  }
  return written;
}

// A coder may write more than the tile will take in the end, because it finds out only afterwards
// that its codes are longer than the elements. So it writes into the payload only where that has
// room for the worst case, which may spill into the room of later tiles; near the payload's end it
// writes into overflow_, and what proves short enough is copied.
size_t TiledCodec::encode_tile(const EncodeContext& context, ElementType type, ByteSpan elements,
                               MutableByteSpan room) {
  const size_t width = element_bytes(type);
  const size_t most = most_coded_bytes(elements.size() / width, width);
  const bool in_place = room.size() >= most;
  uint8_t* const to = in_place ? room.data() : overflow_.get();
  const size_t coded = coder_->encode(context, type, elements, {to, most});
  if (coded <= elements.size()) {
    if (!in_place) std::copy_n(to, coded, room.data());
    return coded;
  }
  room[0] = kRawTile;
  std::copy(elements.begin(), elements.end(), room.begin() + 1);
  return 1 + elements.size();
}

Result<void> TiledCodec::decode(ElementType type, ByteSpan payload, MutableByteSpan elements) {
  const size_t width = element_bytes(type);
  LONGHAUL_CHECK(elements.size() % width == 0U);
  return for_each_tile(shape(type, elements.size() / width), payload,
                       [&](ByteSpan stored, size_t first, size_t count) -> Result<void> {
                         const auto tile = elements.subspan(first * width, count * width);
                         if (stored[0] != kRawTile) return coder_->decode(type, stored, tile);
                         std::copy(stored.begin() + 1, stored.end(), tile.begin());
                         return {};
                       });
}

Result<void> TiledCodec::decode_add(ElementType type, ByteSpan payload, std::span<float> sums,
                                    float scale) {
  return for_each_tile(shape(type, sums.size()), payload,
                       [&](ByteSpan stored, size_t first, size_t count) -> Result<void> {
                         const auto tile = sums.subspan(first, count);
                         if (stored[0] != kRawTile)
                           return coder_->decode_add(type, stored, tile, scale);
                         add_elements(type, level_, stored.data() + 1, count, scale, tile.data());
                         return {};
                       });
}

}  // namespace longhaul
