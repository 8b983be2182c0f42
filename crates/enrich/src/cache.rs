//! Answers that may be used again: few, young, in memory only, and under a hash of what was asked.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::answer::Answer;

/// What a question is known by: a hash, so that what was asked for does not linger in memory.
pub type Key = [u8; 32];

/// The bounds of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Answers.
    pub count: usize,
    /// Bytes of all answers together.
    pub bytes: usize,
}

impl Default for Bounds {
    /// What stays small beside the function's memory budget: 2,000 answers, 1 MiB.
    fn default() -> Self {
        Self { count: 2_000, bytes: 1 << 20 }
    }
}

/// The answers, oldest first out.
#[derive(Debug, Default)]
pub struct Cache {
    bounds: Bounds,
    entries: HashMap<Key, Entry>,
    /// In the order of their arrival, each with the number of its entry: a place whose entry was replaced is passed over.
    order: VecDeque<(Key, u64)>,
    bytes: usize,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Rc<Answer>,
    until: Instant,
    arrival: u64,
}

impl Cache {
    /// An empty cache.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// The answer, if there is one that may still be used at `now`.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Rc<Answer>> {
        self.entries.get(key).filter(|entry| now < entry.until).map(|entry| Rc::clone(&entry.answer))
    }

    /// Keeps an answer for `age`, and lets go of the oldest until the bounds hold. An age of zero keeps nothing.
    pub fn put(&mut self, key: Key, answer: Rc<Answer>, now: Instant, age: Duration) {
        let size = answer.size();
        let until = now.checked_add(age).filter(|until| *until > now);
        let Some(until) = until.filter(|_| size <= self.bounds.bytes) else { return };
        self.arrivals = self.arrivals.wrapping_add(1);
        let arrival = self.arrivals;
        if let Some(old) = self.entries.insert(key, Entry { answer, until, arrival }) {
            self.bytes = self.bytes.saturating_sub(old.answer.size());
        }
        self.bytes = self.bytes.saturating_add(size);
        self.order.push_back((key, arrival));
        self.shrink(now);
    }

    fn shrink(&mut self, now: Instant) {
        while let Some((key, arrival)) = self.order.front().copied() {
            let entry = self.entries.get(&key).filter(|entry| entry.arrival == arrival);
            let over = self.entries.len() > self.bounds.count || self.bytes > self.bounds.bytes;
            if entry.is_some_and(|entry| !over && now < entry.until) {
                break;
            }
            if entry.is_some()
                && let Some(old) = self.entries.remove(&key)
            {
                self.bytes = self.bytes.saturating_sub(old.answer.size());
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn answer(text: &str) -> Rc<Answer> {
        Rc::new(Answer::Found(vec![("a".to_owned(), text.to_owned())]))
    }

    fn key(number: u8) -> Key {
        [number; 32]
    }

    #[test]
    fn an_answer_is_used_again_until_its_age_is_over() {
        let now = Instant::now();
        let mut cache = Cache::new(Bounds::default());
        cache.put(key(1), answer("1"), now, AGE);
        assert_eq!(cache.get(&key(1), now + AGE - Duration::from_millis(1)), Some(answer("1")));
        assert_eq!(cache.get(&key(1), now + AGE), None);
        assert_eq!(cache.get(&key(2), now), None);
    }

    #[test]
    fn an_age_of_zero_keeps_nothing() {
        let now = Instant::now();
        let mut cache = Cache::new(Bounds::default());
        cache.put(key(1), answer("1"), now, Duration::ZERO);
        assert_eq!((cache.entries.len(), cache.order.len()), (0, 0));
    }

    #[test]
    fn the_oldest_makes_room_when_there_are_too_many() {
        let now = Instant::now();
        let mut cache = Cache::new(Bounds { count: 2, bytes: 1_000 });
        for number in 1..=3 {
            cache.put(key(number), answer("x"), now, AGE);
        }
        assert_eq!(cache.get(&key(1), now), None);
        assert!(cache.get(&key(2), now).is_some() && cache.get(&key(3), now).is_some());
    }

    #[test]
    fn the_oldest_make_room_when_there_are_too_many_bytes() {
        let now = Instant::now();
        let mut cache = Cache::new(Bounds { count: 100, bytes: 10 });
        cache.put(key(1), answer("1234"), now, AGE);
        cache.put(key(2), answer("1234"), now, AGE);
        assert_eq!((cache.bytes, cache.entries.len()), (10, 2));
        cache.put(key(3), answer("12345678"), now, AGE);
        assert_eq!((cache.bytes, cache.entries.len()), (9, 1));
        cache.put(key(4), answer("1234567890"), now, AGE);
        assert_eq!(cache.get(&key(4), now), None, "larger than the whole cache");
        assert!(cache.get(&key(3), now).is_some());
    }

    #[test]
    fn an_answer_that_is_asked_again_counts_once() {
        let now = Instant::now();
        let mut cache = Cache::new(Bounds { count: 2, bytes: 1_000 });
        cache.put(key(1), answer("old"), now, AGE);
        cache.put(key(2), answer("x"), now, AGE);
        cache.put(key(1), answer("new"), now + AGE, AGE);
        assert_eq!(cache.get(&key(1), now + AGE), Some(answer("new")));
        assert_eq!(cache.bytes, answer("new").size(), "the entry past its age is gone too");
        for number in 0..200 {
            cache.put(key(number % 2), answer("y"), now + AGE, AGE);
        }
        assert!(cache.order.len() <= 4, "places of replaced entries do not pile up: {}", cache.order.len());
    }
}
