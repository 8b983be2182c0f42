//! Which calls meet with a fault, and with which.

use std::collections::BTreeSet;
use std::time::Duration;

use super::operation::Operation;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The service answers that there are too many calls; it gets nothing.
    Throttle,
    /// The service answers with an error of its own (5xx); it gets nothing.
    Down,
    /// The connection ends before anything is forwarded.
    Cut,
    /// The call is forwarded and has its effect; the connection ends instead of an answer.
    Lose,
    /// The call is forwarded after this time, whether or not somebody still waits for the answer.
    Late(Duration),
    /// The call is forwarded at once, its answer is passed on after this time.
    Slow(Duration),
    /// The call is forwarded twice, one after the other; the second answer counts.
    Twice,
    /// The call is forwarded after so many later ones of the same action have ended, or after [`OVERTAKEN_WITHIN`].
    Overtaken(u64),
    /// The call waits for [`Proxy::release`](super::Proxy::release) before it is forwarded.
    Hold,
    /// The call is forwarded; its answer waits for [`Proxy::release`](super::Proxy::release).
    HoldAnswer,
    /// Entries of a batch call are not forwarded and come back as failed, by an error of the service's own; keys and
    /// writes of DynamoDB come back as unprocessed. If none of those is left, the service throttles, as DynamoDB does.
    /// A call that has no entries passes.
    Fail(Pick),
    /// The same, for good: the service refuses the entries for what they are. DynamoDB does not know this.
    Refuse(Pick),
}

/// How long a call waits at most for others to overtake it.
pub const OVERTAKEN_WITHIN: Duration = Duration::from_millis(500);

impl Fault {
    /// The name under which it is counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Throttle => "throttled",
            Self::Down => "down",
            Self::Cut => "cut",
            Self::Lose => "answer lost",
            Self::Late(_) => "late",
            Self::Slow(_) => "slow",
            Self::Twice => "twice",
            Self::Overtaken(_) => "overtaken",
            Self::Hold => "held",
            Self::HoldAnswer => "answer held",
            Self::Fail(_) => "entries failed",
            Self::Refuse(_) => "entries refused",
        }
    }
}

/// Which entries of a batch call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// All of them.
    All,
    /// So many, chosen by the seed; all if there are fewer.
    Some(usize),
    /// From one to all, chosen by the seed.
    Any,
    /// Those at these places, counted from 0; places behind the last entry are none.
    At(Vec<usize>),
}

impl Pick {
    /// The places, of so many entries; `draw` is a random number of this call.
    pub(super) fn of(&self, entries: usize, draw: u64) -> BTreeSet<usize> {
        let some = match self {
            Self::All => entries,
            Self::Some(some) => *some,
            Self::Any => below(mixed(draw), entries).saturating_add(1),
            Self::At(places) => return places.iter().copied().filter(|place| *place < entries).collect(),
        };
        let mut left: Vec<usize> = (0..entries).collect();
        let mut picked = BTreeSet::new();
        let mut draw = draw;
        while picked.len() < some && !left.is_empty() {
            draw = mixed(draw);
            picked.insert(left.swap_remove(below(draw, left.len())));
        }
        picked
    }
}

/// A fault and the calls that meet with it.
#[derive(Debug, Clone)]
pub struct Rule {
    service: String,
    action: String,
    with: Option<String>,
    when: When,
    most: u64,
    fault: Fault,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Nth(u64),
    /// In so many of 2^32.
    Chance(u64),
}

impl Rule {
    /// Every call of an action of a service: `sqs`, `sns`, `dynamodb`, `kms`, `events`, `lambda`, `secretsmanager`, `s3`; `http`
    /// with the method as action is what no service of AWS is asked for. `*` is any; `A|B` is A or B.
    pub fn on(service: &str, action: &str, fault: Fault) -> Self {
        Self {
            service: service.to_owned(),
            action: action.to_owned(),
            with: None,
            when: When::Always,
            most: u64::MAX,
            fault,
        }
    }

    /// Only calls whose path or body holds this text as it is written there: a queue's name, a table's. It neither takes
    /// nor counts others.
    #[must_use]
    pub fn with(self, text: &str) -> Self {
        Self { with: Some(text.to_owned()), ..self }
    }

    /// Only one call: the nth, counted from 1 since the rule was added. A retry is a call.
    #[must_use]
    pub fn nth(self, nth: u64) -> Self {
        Self { when: When::Nth(nth), ..self }
    }

    /// Only this part of the calls (0 to 1). The nth call of a rule draws the same in every run of a seed.
    #[must_use]
    pub fn chance(self, part: f64) -> Self {
        let of_two_to_the_32 = (part.clamp(0.0, 1.0) * 4_294_967_296.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and 2^32"
        )]
        let chance = of_two_to_the_32 as u64;
        Self { when: When::Chance(chance), ..self }
    }

    /// At most so often.
    #[must_use]
    pub fn most(self, most: u64) -> Self {
        Self { most, ..self }
    }
}

/// Whether a name is the one of a rule.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    pattern == "*" || pattern.split('|').any(|one| one == name)
}

/// A rule that is at work.
#[derive(Debug)]
pub(super) struct Armed {
    rule: Rule,
    /// Tells its draws from those of other rules.
    number: u64,
    seen: u64,
    done: u64,
}

impl Armed {
    pub(super) fn new(rule: Rule, number: u64) -> Self {
        Self { rule, number, seen: 0, done: 0 }
    }

    /// Counts a call, if it is one of the rule's; says whether it meets with the fault, and gives it a random number.
    pub(super) fn meets(
        &mut self,
        operation: &Operation,
        path: &str,
        body: &[u8],
        seed: u64,
    ) -> Option<(Fault, u64)> {
        let rule = &self.rule;
        let holds = |text: &String| path.contains(text.as_str()) || contains(body, text.as_bytes());
        let is_its = fits(&rule.service, &operation.service)
            && fits(&rule.action, &operation.action)
            && rule.with.as_ref().is_none_or(holds);
        if !is_its {
            return None;
        }
        self.seen = self.seen.saturating_add(1);
        let draw = mixed(seed ^ mixed(self.number.wrapping_add(1)) ^ mixed(self.seen.wrapping_shl(20)));
        let now = match rule.when {
            When::Always => true,
            When::Nth(nth) => self.seen == nth,
            When::Chance(chance) => draw >> 32 < chance,
        };
        if !now || self.done >= rule.most {
            return None;
        }
        Some((rule.fault.clone(), mixed(draw)))
    }

    /// Notes that a call has met with the fault.
    pub(super) fn note(&mut self) {
        self.done = self.done.saturating_add(1);
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

fn below(draw: u64, most: usize) -> usize {
    let most = u64::try_from(most).unwrap_or(u64::MAX).max(1);
    usize::try_from(draw % most).unwrap_or_default()
}

/// A number that looks like chance and is the same for the same one (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send() -> Operation {
        Operation { service: "sqs".to_owned(), action: "SendMessageBatch".to_owned() }
    }

    fn met(rule: Rule, seed: u64, calls: u64) -> Vec<u64> {
        let mut armed = Armed::new(rule, 0);
        (1..=calls)
            .filter(|_| {
                let met =
                    armed.meets(&send(), "/", b"{\"QueueUrl\":\"http://x/changes.fifo\"}", seed).is_some();
                if met {
                    armed.note();
                }
                met
            })
            .collect()
    }

    #[test]
    fn a_rule_takes_the_calls_that_it_names() {
        let rule = |service, action| Rule::on(service, action, Fault::Throttle);
        assert_eq!(met(rule("sqs", "SendMessageBatch"), 1, 3), [1, 2, 3]);
        assert_eq!(met(rule("*", "UpdateItem|SendMessageBatch"), 1, 2), [1, 2]);
        assert_eq!(met(rule("sqs", "*").nth(2), 1, 3), [2]);
        assert_eq!(met(rule("sqs", "*").most(2), 1, 3), [1, 2]);
        assert_eq!(met(rule("sqs", "*").with("changes.fifo"), 1, 1), [1]);
        assert_eq!(met(rule("sqs", "*").with("other.fifo"), 1, 1), [0; 0]);
        assert_eq!(met(rule("sns", "SendMessageBatch"), 1, 3), [0; 0]);
        assert_eq!(met(rule("sqs", "SendMessage"), 1, 3), [0; 0]);
    }

    #[test]
    fn a_seed_draws_the_same_every_time_and_another_seed_differently() {
        let rule = || Rule::on("*", "*", Fault::Lose).chance(0.25);
        let first = met(rule(), 7, 4_000);
        assert_eq!(first, met(rule(), 7, 4_000));
        assert_ne!(first, met(rule(), 8, 4_000));
        assert!((800..1_200).contains(&first.len()), "{} of 4,000 at 0.25", first.len());
        assert_eq!(met(rule().chance(0.0), 7, 1_000), [0; 0]);
        assert_eq!(met(rule().chance(1.0), 7, 1_000).len(), 1_000);
    }

    #[test]
    fn entries_are_picked_as_many_as_asked_for() {
        for draw in 0..100 {
            assert_eq!(Pick::Some(3).of(10, draw).len(), 3);
            assert_eq!(Pick::Some(3).of(2, draw).len(), 2);
            assert!((1..=10).contains(&Pick::Any.of(10, draw).len()));
            assert!(Pick::Any.of(0, draw).is_empty());
        }
        let sizes: BTreeSet<usize> = (0..200).map(|draw| Pick::Any.of(10, draw).len()).collect();
        assert_eq!(sizes, (1..=10).collect());
        assert_eq!(Pick::All.of(4, 1), (0..4).collect());
        assert_eq!(Pick::At(vec![0, 9]).of(4, 1), BTreeSet::from([0]));
    }
}
