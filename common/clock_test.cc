#include "common/clock.h"

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

TEST(ClockTest, ManualClockMovesOnlyWhenTold) {
  ManualClock clock;
  const TimePoint start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(seconds(3));
  EXPECT_EQ(clock.Now() - start, seconds(3));
}

TEST(DeadlineTest, PassesAtItsMoment) {
  ManualClock clock;
  const Deadline deadline = Deadline::After(seconds(2), clock);
  EXPECT_FALSE(deadline.PassedAt(clock.Now()));
  EXPECT_EQ(deadline.RemainingAt(clock.Now()), seconds(2));
  clock.Advance(seconds(2));
  EXPECT_TRUE(deadline.PassedAt(clock.Now()));
  clock.Advance(seconds(1));
  EXPECT_EQ(deadline.RemainingAt(clock.Now()), Duration::zero());
}

TEST(DeadlineTest, IsCutToTheLongestAllowed) {
  ManualClock clock;
  EXPECT_EQ(Deadline::After(hours(1000), clock).RemainingAt(clock.Now()), kMaxDeadline);
  EXPECT_TRUE(Deadline::After(-seconds(1), clock).PassedAt(clock.Now()));
}

}  // namespace
}  // namespace reprise
