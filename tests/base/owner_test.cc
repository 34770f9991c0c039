#include "base/owner.h"

#include <gtest/gtest.h>

#include <future>

namespace longhaul {
namespace {

bool allows_another_thread(const Owner& owner) {
  return std::async(std::launch::async,
                    [&owner] {
                      try {
                        owner.assert_owner();
                        return true;
                      } catch (const BugError&) {
                        return false;
                      }
                    })
      .get();
}

TEST(OwnerTest, OneThreadOwnsForATermAndAnyOutsideOfIt) {
  Owner owner;
  EXPECT_TRUE(allows_another_thread(owner));
  {
    const Owner::Term term(owner);
    owner.assert_owner();
    EXPECT_FALSE(allows_another_thread(owner));
  }
  EXPECT_TRUE(allows_another_thread(owner));
}

TEST(OwnerTest, ThereIsOneTermAtATime) {
  Owner owner;
  const Owner::Term term(owner);
  EXPECT_THROW({ const Owner::Term second(owner); }, BugError);
  owner.assert_owner();  // still ours
  EXPECT_FALSE(allows_another_thread(owner));
}

}  // namespace
}  // namespace longhaul
