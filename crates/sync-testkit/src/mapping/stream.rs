//! What feeds a function from one shard of a DynamoDB stream, by the rules that Lambda documents.
//!
//! A shard gives its records in order, and nothing behind a batch before the batch is over. A batch is over when the function
//! has done it, when it was tried too often, or when it got too old; what is given up is told ([`GivenUp`]) by its place
//! alone, as Lambda's destination gets it, and the shard goes on.
//!
//! - With `reports` an answer names what failed, and all from the lowest sequence number on comes again. The same answers
//!   fail the whole batch as those of a queue ([`failures`]).
//! - With `bisect` a batch that failed as a whole comes again in two halves, one behind the other; to be cut is no try.
//! - What is older than `longest` is given up before it is handed out.
//!
//! It has no clock: the time is an argument.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Invoked, failures};

/// How a mapping reads a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// `BatchSize`.
    pub batch: usize,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `MaximumRetryAttempts`: tries behind the first one.
    pub retries: u32,
    /// `MaximumRecordAgeInSeconds`.
    pub longest: Duration,
    /// `ReportBatchItemFailures`.
    pub reports: bool,
}

/// A record of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// `SequenceNumber`.
    pub sequence: String,
    /// When it happened.
    pub at: Duration,
    /// The record as it stands in the event.
    pub record: Value,
}

/// Records that the mapping does not hand out any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The sequence number of the first.
    pub first: String,
    /// That of the last.
    pub last: String,
    /// How many.
    pub records: usize,
    /// They got too old; else they were tried too often.
    pub too_old: bool,
}

/// A shard on its way to a function.
#[derive(Debug)]
pub struct Shard {
    reading: Reading,
    records: VecDeque<Told>,
    /// The parts of the batch that is being worked, the next one last.
    parts: Vec<Part>,
    given_up: Vec<GivenUp>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    records: usize,
    tries: u32,
}

impl Shard {
    /// A shard without records.
    pub fn new(reading: Reading) -> Self {
        Self { reading, records: VecDeque::new(), parts: Vec::new(), given_up: Vec::new() }
    }

    /// Adds a record behind all others.
    pub fn push(&mut self, told: Told) {
        self.records.push_back(told);
    }

    /// What was given up so far.
    pub fn given_up(&self) -> &[GivenUp] {
        &self.given_up
    }

    /// How many records are not over.
    pub fn left(&self) -> usize {
        self.records.len()
    }

    /// The event of the next invocation; none if there are no records. The answer goes to [`Shard::end`].
    pub fn next(&mut self, now: Duration) -> Option<String> {
        loop {
            let part = match self.parts.last() {
                Some(part) => *part,
                None if self.records.is_empty() => return None,
                None => {
                    let part = Part { records: self.records.len().min(self.reading.batch), tries: 0 };
                    self.parts.push(part);
                    part
                }
            };
            let too_old = |told: &&Told| now.saturating_sub(told.at) > self.reading.longest;
            let old = self.records.iter().take(part.records).take_while(too_old).count();
            if old == 0 {
                let records: Vec<&Value> =
                    self.records.iter().take(part.records).map(|told| &told.record).collect();
                return Some(json!({ "Records": records }).to_string());
            }
            self.give_up(old, true);
        }
    }

    /// Takes how the invocation ended that the last [`Shard::next`] was for.
    pub fn end(&mut self, invoked: &Invoked) {
        let Some(part) = self.parts.last().copied() else { return };
        // Where the batch has to begin again; none if it failed as a whole.
        let begin = match invoked {
            // Not begun: it is begun again, and is no try.
            Invoked::Throttled => return,
            Invoked::Failed => None,
            Invoked::Answered(_) if !self.reading.reports => Some(part.records),
            Invoked::Answered(answer) => self.begin(answer, part.records),
        };
        match begin {
            Some(begin) if begin == part.records => self.over(begin),
            // What was done stays done, and the rest is a batch by itself.
            Some(begin) if begin > 0 => {
                self.over(begin);
                self.again();
            }
            Some(_) => self.again(),
            None if self.reading.bisect && part.records > 1 => {
                self.parts.pop();
                let first = part.records / 2;
                self.parts.push(Part { records: part.records - first, ..part });
                self.parts.push(Part { records: first, ..part });
            }
            None => self.again(),
        }
    }

    /// The place of the lowest sequence number that an answer names; none if it breaks a rule.
    fn begin(&self, answer: &str, records: usize) -> Option<usize> {
        let batch: Vec<&str> = self.records.iter().take(records).map(|told| told.sequence.as_str()).collect();
        let failed = failures(answer, &batch.iter().copied().collect::<BTreeSet<_>>()).ok()?;
        // A shard is in the order of its sequence numbers, which are no texts to compare.
        Some(batch.iter().position(|sequence| failed.contains(*sequence)).unwrap_or(records))
    }

    /// Counts a try of the part that is being worked; the last one gives it up.
    fn again(&mut self) {
        let Some(part) = self.parts.last_mut() else { return };
        part.tries += 1;
        if part.tries > self.reading.retries {
            let records = part.records;
            self.give_up(records, false);
        }
    }

    fn give_up(&mut self, records: usize, too_old: bool) {
        let sequence = |told: Option<&Told>| told.map(|told| told.sequence.clone()).unwrap_or_default();
        let first = sequence(self.records.front());
        let last = sequence(self.records.get(records.saturating_sub(1)));
        self.given_up.push(GivenUp { first, last, records, too_old });
        self.over(records);
    }

    /// Takes records away from the front.
    fn over(&mut self, records: usize) {
        self.records.drain(..records.min(self.records.len()));
        if let Some(part) = self.parts.last_mut() {
            part.records = part.records.saturating_sub(records);
            if part.records == 0 {
                self.parts.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Reading =
        Reading { batch: 4, bisect: true, retries: 2, longest: Duration::from_secs(100), reports: true };

    fn shard(reading: Reading, records: u64) -> Shard {
        let mut shard = Shard::new(reading);
        for number in 8..8 + records {
            // Longer numbers are higher, whatever a comparison of texts says.
            let sequence = number.to_string();
            let record = json!({ "dynamodb": { "SequenceNumber": sequence } });
            shard.push(Told { sequence, at: Duration::from_secs(number), record });
        }
        shard
    }

    /// Lets a function work until nothing is left; gives the batches that it was handed.
    fn play(shard: &mut Shard, mut function: impl FnMut(&[String]) -> Invoked) -> Vec<Vec<String>> {
        let mut batches = Vec::new();
        while let Some(event) = shard.next(Duration::from_secs(50)) {
            let event: Value = serde_json::from_str(&event).unwrap();
            let sequence = |record: &Value| record["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned();
            let batch: Vec<String> = event["Records"].as_array().unwrap().iter().map(sequence).collect();
            let invoked = function(&batch);
            shard.end(&invoked);
            batches.push(batch);
            assert!(batches.len() < 100, "the shard does not go on");
        }
        batches
    }

    fn done() -> Invoked {
        Invoked::Answered("{}".to_owned())
    }

    fn named(sequences: &[&str]) -> Invoked {
        let entries: Vec<Value> =
            sequences.iter().map(|sequence| json!({ "itemIdentifier": sequence })).collect();
        Invoked::Answered(json!({ "batchItemFailures": entries }).to_string())
    }

    #[test]
    fn a_batch_comes_behind_the_one_before_is_done() {
        let batches = play(&mut shard(READING, 6), |_| done());
        assert_eq!(batches, [vec!["8", "9", "10", "11"], vec!["12", "13"]]);
    }

    #[test]
    fn a_record_that_kills_the_function_is_cut_free_and_given_up_alone() {
        let mut shard = shard(READING, 8);
        let fails = |batch: &[String]| {
            if batch.contains(&"10".to_owned()) { Invoked::Failed } else { done() }
        };
        let batches = play(&mut shard, fails);
        let given_up = GivenUp { first: "10".to_owned(), last: "10".to_owned(), records: 1, too_old: false };
        assert_eq!(shard.given_up(), [given_up]);
        let alone = batches.iter().filter(|batch| **batch == ["10"]).count();
        assert_eq!(alone, 3, "the first time and two retries");
        assert_eq!(batches[..3], [vec!["8", "9", "10", "11"], vec!["8", "9"], vec!["10", "11"]]);
        assert_eq!(batches.last().unwrap(), &["12", "13", "14", "15"]);
    }

    #[test]
    fn without_cuts_a_batch_is_given_up_whole() {
        let mut shard = shard(Reading { bisect: false, ..READING }, 5);
        play(&mut shard, |batch| if batch.len() > 1 { Invoked::Failed } else { done() });
        assert_eq!(shard.given_up()[0].records, 4);
        assert_eq!(shard.given_up().len(), 1);
    }

    #[test]
    fn all_from_the_lowest_number_on_comes_again() {
        let mut first = true;
        let batches = play(&mut shard(READING, 4), |_| {
            if std::mem::take(&mut first) { named(&["11", "9"]) } else { done() }
        });
        assert_eq!(batches, [vec!["8", "9", "10", "11"], vec!["9", "10", "11"]]);
    }

    #[test]
    fn a_record_that_is_always_named_is_given_up_in_the_end_and_not_what_was_done() {
        let mut shard = shard(READING, 4);
        play(&mut shard, |batch| if batch.contains(&"9".to_owned()) { named(&["9"]) } else { done() });
        // It is the first of what is left, with all behind it: nothing is cut where the function answers.
        let given_up = GivenUp { first: "9".to_owned(), last: "11".to_owned(), records: 3, too_old: false };
        assert_eq!(shard.given_up(), [given_up]);
    }

    #[test]
    fn an_answer_that_breaks_a_rule_fails_the_whole_batch() {
        for answer in [
            "no json",
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"99"}]}"#,
        ] {
            let mut first = true;
            let batches = play(&mut shard(READING, 2), |_| {
                if std::mem::take(&mut first) { Invoked::Answered(answer.to_owned()) } else { done() }
            });
            assert_eq!(batches, [vec!["8", "9"], vec!["8"], vec!["9"]], "{answer}");
        }
        // Nobody asked for answers: whatever it says, it is done.
        let unasked = Reading { reports: false, ..READING };
        assert_eq!(play(&mut shard(unasked, 2), |_| named(&["8"])).len(), 1);
    }

    #[test]
    fn what_is_too_old_is_given_up_before_it_is_handed_out() {
        let mut shard = shard(Reading { longest: Duration::from_secs(40), ..READING }, 5);
        let batches = play(&mut shard, |_| done());
        // At 50 the records of 8 and 9 are older than 40.
        assert_eq!(batches, [vec!["10", "11"], vec!["12"]]);
        assert_eq!((shard.given_up()[0].records, shard.given_up()[0].too_old), (2, true));
    }

    #[test]
    fn a_throttled_invocation_is_no_try() {
        let mut times = 0;
        let batches = play(&mut shard(READING, 1), |_| {
            times += 1;
            if times < 20 { Invoked::Throttled } else { done() }
        });
        assert_eq!(batches.len(), 20);
    }
}
