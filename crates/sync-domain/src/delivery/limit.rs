//! How often a target is sent to, over all running functions: requests per time and requests per day, in integers and
//! without a clock.
//!
//! A target's [`Meter`] is one row that all instances share. It says up to which moment the target's places in time, its
//! *slots*, are given out, and how many requests of which day are. Whoever wants to send takes the next slots by one
//! conditional write, the [`Claim`]; no two get the same ones, since both numbers only grow. A slot is used at its time or
//! at most [`LATE_US`] later; one that was missed is thrown away and never made up for.
//!
//! **Promise.** In any second a target gets at most [`Limit::in_a_second`] requests, which is the rate and a tenth of a
//! second's worth on top, however many instances run and whichever of them die. It holds while the instances' clocks are
//! within [`SKEW_US`] of the true time: a slot is a moment, and each instance reads it off its own clock. A clock that is
//! off by more adds what the rate allows in that time, once in each direction.
//!
//! In a day, from midnight to midnight UTC, a target gets at most its quota; what was claimed for a day is not used behind
//! its end. There the clocks count as well: a request within the skew of midnight may fall on the other side of it.

use crate::config::{Quota, Rate};

/// How long behind its time a slot may be used (microseconds): what comes between waking up and sending.
pub const LATE_US: i64 = 80_000;
/// How far off the true time the clock of an instance may be for the promise to hold (microseconds). Those of Lambda are
/// kept within a few milliseconds.
pub const SKEW_US: i64 = 10_000;
/// How many slots a claim takes at most: more than a batch holds messages.
pub const MOST: u32 = 100;
/// The code of the reason by which a target whose quota is used up is not sent to.
pub const QUOTA_SPENT: &str = "quota_spent";

const SECOND_US: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
const DAY_US: i64 = DAY_S * SECOND_US;
/// From one day's count to the next in [`Meter::spent`]: more than any quota, so that a changed quota changes no day.
const DAY_STRIDE: i64 = 10_000_000_000;

/// What a target takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limit {
    /// From one slot to the next (microseconds), rounded up; 0 = no rate.
    interval: i64,
    /// Requests of a day; none = as many as there are.
    quota: Option<u32>,
}

/// The row of a target, as all its instances share it. Both numbers only grow. A row that is not there is one of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// When the next free slot is (microseconds since 1970).
    pub next: i64,
    /// The last day that was claimed for and how many requests of it were: days since 1970 times ten thousand million, plus
    /// the count.
    pub spent: i64,
}

/// A conditional write of a meter: both steps are made, or none. It needs no revision, since a step says all that has to
/// be true of the row for it to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// That of [`Meter::next`]; none = the target has no rate.
    pub next: Option<Step>,
    /// That of [`Meter::spent`]; none = the target has no quota.
    pub spent: Option<Step>,
    count: u32,
    interval: i64,
    now: i64,
    day: Option<i64>,
}

/// How one number of a meter grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Where the number is below `floor`, it becomes `to`: time went by unused.
    Raise {
        /// Below which it has to be.
        floor: i64,
        /// What it becomes.
        to: i64,
    },
    /// Where the number is `floor` or more, and at most `ceiling`, it grows by `by`: somebody is ahead of us.
    Add {
        /// The least that it may be.
        floor: i64,
        /// The most that it may be.
        ceiling: i64,
        /// By how much it grows.
        by: i64,
    },
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// It was written; the row is this now.
    Done(Meter),
    /// Its condition does not hold: the row is this instead.
    Refused(Meter),
}

/// Why there is nothing to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The next slot is at this time (microseconds since 1970), later than can be waited.
    Until(i64),
    /// The quota of the day is used up; the next day begins at this time (microseconds since 1970).
    Spent(i64),
}

/// Slots that belong to one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    next: i64,
    interval: i64,
    left: u32,
    /// The day that they were claimed for ends here (microseconds since 1970).
    ends: Option<i64>,
}

/// One request's place in time (microseconds since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Not before.
    pub at: i64,
    /// And not after.
    pub until: i64,
}

impl Limit {
    /// The limit that a rate and a quota make.
    pub fn new(rate: Option<Rate>, quota: Option<Quota>) -> Self {
        let interval = rate.map_or(0, |rate| {
            let per = i64::try_from(rate.per.as_micros()).unwrap_or(i64::MAX);
            // Rounded up: never more than the rate.
            round_up(per, i64::from(rate.requests.max(1)))
        });
        Self { interval, quota: quota.map(|quota| quota.requests) }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.interval == 0 && self.quota.is_none()
    }

    /// The most requests that go out within any second; none = no rate. This is the rate plus the burst, a tenth of a
    /// second's worth: what was late meets what is on time.
    pub fn in_a_second(&self) -> Option<u64> {
        (self.interval > 0).then(|| {
            let window = SECOND_US + LATE_US + 2 * SKEW_US;
            u64::try_from(round_up(window, self.interval)).unwrap_or(u64::MAX)
        })
    }

    /// The claim for the next slots, as far as the row is known: `want` of them (one at least, [`MOST`] at most) or as many
    /// as there are, none before `earliest` or after `latest`. The day is that of `now`; all are microseconds since 1970.
    /// Of a row that has grown since it was seen the claim is refused, or takes later slots within the same bounds.
    pub fn claim(
        &self,
        seen: &Meter,
        want: u32,
        now: i64,
        earliest: i64,
        latest: i64,
    ) -> Result<Claim, Full> {
        let mut count = i64::from(want.clamp(1, MOST));
        let day = self.quota.map(|quota| {
            // A clock that is behind at midnight counts with the others.
            let day = day_of(now).max(seen.spent.div_euclid(DAY_STRIDE));
            let floor = day.saturating_mul(DAY_STRIDE);
            (day, floor, floor.saturating_add(i64::from(quota)))
        });
        if let Some((day, floor, end)) = day {
            let left = end.saturating_sub(seen.spent.max(floor));
            if left <= 0 {
                return Err(Full::Spent(end_of(day)));
            }
            count = count.min(left);
        }
        if self.interval > 0 {
            let first = seen.next.max(earliest);
            if first > latest {
                return Err(Full::Until(first));
            }
            count = count.min(latest.saturating_sub(first) / self.interval + 1);
        }
        let length = count.saturating_mul(self.interval);
        // The last slot begins an interval before the end of all of them.
        let last_start = latest.saturating_sub(length.saturating_sub(self.interval));
        Ok(Claim {
            next: (self.interval > 0).then(|| Step::of(seen.next, earliest, last_start, length)),
            spent: day.map(|(_, floor, end)| Step::of(seen.spent, floor, end.saturating_sub(count), count)),
            count: u32::try_from(count).unwrap_or(MOST),
            interval: self.interval,
            now,
            day: day.map(|(day, _, _)| day),
        })
    }
}

impl Step {
    fn of(seen: i64, floor: i64, ceiling: i64, by: i64) -> Self {
        if seen < floor {
            Self::Raise { floor, to: floor.saturating_add(by) }
        } else {
            Self::Add { floor, ceiling, by }
        }
    }

    /// What a number becomes; none if the step's condition does not hold.
    pub fn made(&self, number: i64) -> Option<i64> {
        match *self {
            Self::Raise { floor, to } => (number < floor).then_some(to),
            Self::Add { floor, ceiling, by } => {
                (floor..=ceiling).contains(&number).then(|| number.saturating_add(by))
            }
        }
    }
}

impl Claim {
    /// The row that the claim makes of another; none if its condition does not hold. A store does the same in one call.
    pub fn made(&self, row: &Meter) -> Option<Meter> {
        let step = |step: Option<Step>, number| step.map_or(Some(number), |step| step.made(number));
        Some(Meter { next: step(self.next, row.next)?, spent: step(self.spent, row.spent)? })
    }

    /// The slots that were claimed, by the row that the claim has made.
    pub fn lease(&self, made: &Meter) -> Lease {
        let length = i64::from(self.count).saturating_mul(self.interval);
        let next = if self.next.is_some() { made.next.saturating_sub(length) } else { self.now };
        Lease { next, interval: self.interval, left: self.count, ends: self.day.map(end_of) }
    }
}

impl Lease {
    /// The next slot that can still be used; those that cannot are thrown away.
    pub fn take(&mut self, now: i64) -> Option<Slot> {
        while self.left > 0 {
            let at = self.next;
            self.left -= 1;
            self.next = at.saturating_add(self.interval);
            // Without a rate it does not matter when.
            let late = if self.interval > 0 { at.saturating_add(LATE_US) } else { i64::MAX };
            let until = self.ends.map_or(late, |ends| late.min(ends.saturating_sub(1)));
            if now <= until {
                return Some(Slot { at, until });
            }
        }
        None
    }
}

/// Whether a quota that was found used up at `since` may still be (both seconds since 1970).
pub fn is_still_spent(since: i64, now: i64) -> bool {
    now.div_euclid(DAY_S) <= since.div_euclid(DAY_S)
}

fn day_of(time: i64) -> i64 {
    time.div_euclid(DAY_US)
}

fn end_of(day: i64) -> i64 {
    day.saturating_add(1).saturating_mul(DAY_US)
}

/// Divides a positive number by another, rounding up.
fn round_up(number: i64, by: i64) -> i64 {
    number.saturating_add(by.saturating_sub(1)) / by
}

#[cfg(test)]
mod tests;
