use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

const LIMITS: Limits = Limits { entries: 10, bytes: 1_000 };

fn items<'a>(groups: &[&'a str]) -> Vec<Item<'a>> {
    groups.iter().map(|group| Item { group: Some(group), size: 10 }).collect()
}

/// A service that answers by a function of (call number, place of the entry), and notes what it was sent and what it took.
struct Service<A> {
    answer: A,
    calls: RefCell<Vec<Vec<usize>>>,
    taken: RefCell<Vec<usize>>,
}

impl<A: Fn(usize, &[usize]) -> Result<Vec<Answer>>> Service<A> {
    fn new(answer: A) -> Self {
        Self { answer, calls: RefCell::default(), taken: RefCell::default() }
    }

    async fn send(&self, items: &[Item<'_>]) -> Vec<Result<()>> {
        send("test:Send", items, LIMITS, Patience::IMPATIENT, |indices| {
            let number = self.calls.borrow().len();
            let answer = (self.answer)(number, &indices);
            if let Ok(answers) = &answer {
                let taken = indices.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
                self.taken.borrow_mut().extend(taken.map(|(index, _)| *index));
            }
            self.calls.borrow_mut().push(indices);
            async { answer }
        })
        .await
    }
}

fn fine(indices: &[usize]) -> Vec<Answer> {
    indices.iter().map(|_| Ok(())).collect()
}

fn no(kind: Kind) -> Answer {
    Err((kind, "Code".to_owned()))
}

fn kinds(results: &[Result<()>]) -> Vec<Option<Kind>> {
    results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect()
}

const TAKEN: Option<Kind> = None;
const AWAY: Option<Kind> = Some(Kind::Unavailable);
const BEHIND: Option<Kind> = Some(Kind::Behind);
const REFUSED: Option<Kind> = Some(Kind::Refused);

#[tokio::test]
async fn a_hundred_records_take_ten_calls() {
    let names: Vec<String> = (0..100).map(|n| format!("g{n}")).collect();
    let groups: Vec<&str> = names.iter().map(String::as_str).collect();
    let service = Service::new(|_, indices| Ok(fine(indices)));
    let results = service.send(&items(&groups)).await;
    assert!(results.iter().all(Result::is_ok) && results.len() == 100);
    assert_eq!(service.calls.borrow().len(), 10);
}

#[tokio::test]
async fn a_call_never_holds_two_entries_of_a_group() {
    let service = Service::new(|_, indices| Ok(fine(indices)));
    service.send(&items(&["a", "a", "b", "a", "c", "b"])).await;
    assert_eq!(*service.calls.borrow(), [vec![0, 2, 4], vec![1, 5], vec![3]]);
}

#[tokio::test]
async fn an_entry_behind_a_failed_one_is_not_sent() {
    for (kind, head) in [(Kind::Refused, REFUSED), (Kind::Unavailable, AWAY)] {
        let service = Service::new(move |_, indices| {
            Ok(indices.iter().map(|index| if *index == 0 { no(kind) } else { Ok(()) }).collect())
        });
        let results = service.send(&items(&["a", "b", "a", "a", "b"])).await;
        assert_eq!(kinds(&results), [head, TAKEN, BEHIND, BEHIND, TAKEN]);
        assert_eq!(*service.taken.borrow(), [1, 4]);
    }
}

#[tokio::test]
async fn a_failed_entry_is_tried_again_before_anything_behind_it() {
    let service = Service::new(|call, indices| {
        Ok(indices
            .iter()
            .map(|index| if *index == 0 && call < 2 { no(Kind::Unavailable) } else { Ok(()) })
            .collect())
    });
    let results = service.send(&items(&["a", "a", "b"])).await;
    assert_eq!(kinds(&results), [TAKEN, TAKEN, TAKEN]);
    assert_eq!(*service.taken.borrow(), [2, 0, 1]);
}

#[tokio::test]
async fn an_entry_is_given_up_after_its_tries() {
    let service = Service::new(|_, indices| Ok(indices.iter().map(|_| no(Kind::Unavailable)).collect()));
    let results = service.send(&items(&["a"])).await;
    assert_eq!(kinds(&results), [AWAY]);
    assert_eq!(service.calls.borrow().len(), 4);
}

#[tokio::test]
async fn a_refused_entry_is_not_tried_again() {
    let service = Service::new(|_, _| Ok(vec![no(Kind::Refused)]));
    service.send(&items(&["a"])).await;
    assert_eq!(service.calls.borrow().len(), 1);
}

#[tokio::test]
async fn one_to_ten_failures_in_a_call_leave_the_others_taken() {
    let groups = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for failures in 1..=10 {
        let service = Service::new(move |_, indices| {
            let answer = |index: &usize| if *index < failures { no(Kind::Refused) } else { Ok(()) };
            Ok(indices.iter().map(answer).collect())
        });
        let results = service.send(&items(&groups)).await;
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), failures);
        assert_eq!(service.taken.borrow().len(), 10 - failures);
    }
}

#[tokio::test]
async fn silence_about_an_entry_is_not_success() {
    let service = Service::new(|_, _| Ok(vec![Ok(())]));
    let results = service.send(&items(&["a", "b"])).await;
    // The second is sent again alone and then answered.
    assert_eq!(kinds(&results), [TAKEN, TAKEN]);
    assert_eq!(*service.calls.borrow(), [vec![0, 1], vec![1]]);
    let mute = Service::new(|_, _| Ok(vec![]));
    assert_eq!(kinds(&mute.send(&items(&["a"])).await), [AWAY]);
}

#[tokio::test]
async fn a_lost_answer_fails_its_entries_and_holds_back_their_groups() {
    let service = Service::new(|_, _| Err(error("test:Send", Kind::Unavailable, "Timeout")));
    let results = service.send(&items(&["a", "b", "a"])).await;
    assert_eq!(kinds(&results), [AWAY, AWAY, BEHIND]);
    assert_eq!(*service.calls.borrow(), [vec![0, 1]], "the SDK has retried already");
}

#[tokio::test]
async fn after_a_lost_call_nothing_more_is_tried() {
    let names: Vec<String> = (0..100).map(|n| format!("g{n}")).collect();
    let groups: Vec<&str> = names.iter().map(String::as_str).collect();
    let service = Service::new(|_, _| Err(error("test:Send", Kind::Unavailable, "Timeout")));
    let results = service.send(&items(&groups)).await;
    assert!(kinds(&results).iter().all(|kind| *kind == AWAY));
    assert_eq!(service.calls.borrow().len(), SIDE_BY_SIDE);
}

#[tokio::test]
async fn one_bad_entry_does_not_fail_its_neighbours() {
    let service = Service::new(|_, indices| match indices.contains(&1) {
        true => Err(error("test:Send", Kind::Refused, "InvalidParameter")),
        false => Ok(fine(indices)),
    });
    let results = service.send(&items(&["a", "b", "c", "b", "a"])).await;
    assert_eq!(kinds(&results), [TAKEN, REFUSED, TAKEN, BEHIND, TAKEN]);
}

#[tokio::test]
async fn a_call_that_is_not_allowed_is_not_split() {
    let service = Service::new(|_, _| Err(error("test:Send", Kind::Refused, "AccessDenied")));
    let results = service.send(&items(&["a", "b", "c"])).await;
    assert_eq!(kinds(&results), [REFUSED, REFUSED, REFUSED]);
    assert_eq!(service.calls.borrow().len(), 1);
}

#[tokio::test]
async fn calls_keep_within_the_bytes() {
    let sized = |group: &'static str, size| Item { group: Some(group), size };
    let service = Service::new(|_, indices| Ok(fine(indices)));
    let batch = [
        sized("a", 400),
        sized("b", 600),
        sized("c", 1),
        sized("d", 1_000),
        sized("e", 1_001),
        sized("e", 1),
    ];
    let results = service.send(&batch).await;
    assert_eq!(kinds(&results), [TAKEN, TAKEN, TAKEN, TAKEN, REFUSED, BEHIND]);
    assert_eq!(*service.calls.borrow(), [vec![0, 1], vec![2], vec![3]]);
}

#[tokio::test]
async fn entries_without_a_group_share_calls_and_do_not_wait() {
    let batch: Vec<Item<'_>> = (0..12).map(|_| Item { group: None, size: 1 }).collect();
    let service = Service::new(|_, indices| {
        Ok(indices.iter().map(|index| if *index == 0 { no(Kind::Refused) } else { Ok(()) }).collect())
    });
    let results = service.send(&batch).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 11);
    assert_eq!(service.calls.borrow().len(), 2);
}

#[tokio::test]
async fn whatever_fails_a_group_is_taken_in_order_and_without_gaps() {
    let groups = [
        "a", "b", "a", "c", "a", "b", "d", "c", "a", "b", "b", "e", "a", "c", "f", "g", "h", "i", "j", "k",
        "a",
    ];
    for seed in 0..500_u64 {
        let state = RefCell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let random = move || {
            let mut state = state.borrow_mut();
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *state % 100
        };
        let service = Service::new(|_, indices| match random() {
            0..5 => Err(error("test:Send", Kind::Unavailable, "Timeout")),
            5..10 => Err(error("test:Send", Kind::Refused, "InvalidParameter")),
            10..15 => Ok(fine(&indices[1..])),
            _ => Ok(indices
                .iter()
                .map(|_| match random() {
                    0..25 => no(Kind::Unavailable),
                    25..35 => no(Kind::Refused),
                    _ => Ok(()),
                })
                .collect()),
        });
        let results = service.send(&items(&groups)).await;
        let mut taken: HashMap<&str, Vec<usize>> = HashMap::new();
        for index in service.taken.borrow().iter() {
            taken.entry(groups[*index]).or_default().push(*index);
        }
        for (group, taken) in &taken {
            let all = (0..groups.len()).filter(|index| groups[*index] == *group);
            assert_eq!(*taken, all.take(taken.len()).collect::<Vec<_>>(), "seed {seed}, group {group}");
        }
        for (index, result) in results.iter().enumerate() {
            let was_taken = service.taken.borrow().contains(&index);
            assert_eq!(result.is_ok(), was_taken, "seed {seed}, entry {index}");
        }
    }
}

#[test]
fn a_pause_grows_and_has_a_bound() {
    let patience = Patience { tries: 9, pause: Duration::from_millis(100) };
    for tries in 1..=40 {
        let bound = Duration::from_millis(100) * (1 << (tries - 1).min(6));
        assert!(patience.after(tries) <= bound, "{tries}");
    }
    let pauses: Vec<Duration> = (0..20).map(|_| patience.after(3)).collect();
    assert!(pauses.iter().any(|pause| *pause != pauses[0]), "senders must not come back at once");
}
