//! Bodies that are wrong at random, signed as they are: none makes the endpoint panic, and what it takes is a change.

use sync_domain::change::Change;
use sync_domain::scan::Limits;

use crate::bench::Bench;
use crate::push::Push;

const SAMPLE: &str = r#"{"changes":[{"model":"customer","operation":"update","key":{"customer_id":42},"version":1795551563000000,"occurred_at":"2026-11-24T20:19:23Z","before":null,"after":{"customer_id":42,"email":"a@example.com","note":[1.10,-2e5,true,null,"é😀\n\u0041\ud83d\ude00",{"a":{}}]}},{"model":"customer","operation":"delete","key":{"customer_id":43},"version":"2026-11-24T20:19:23.5Z","occurred_at":"2026-11-24T20:19:23+01:00"}]}"#;

/// Pieces that parsers trip over.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"\\u0000",
    b"\\ud800",
    b"\\",
    b"\xff",
    b"\xf0\x9f",
    b"\0",
    b"-",
    b"1e400",
    b"\"model\":1,",
    b"0",
    b" ",
    b"\n",
    b"\xef\xbf\xbf",
    b"{\"\":",
    b"99999999999999999999999999999999999999999",
];

/// A small generator with a fixed seed (Knuth's MMIX), so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn mutate(numbers: &mut Numbers) -> Vec<u8> {
    let mut body = SAMPLE.as_bytes().to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(body.len());
        match numbers.below(5) {
            0 => body[at] ^= 1 << numbers.below(8),
            1 => drop(body.remove(at)),
            2 => body.truncate(at + 1),
            3 => {
                let end = (at + numbers.below(40)).min(body.len());
                let copy = body[at..end].to_vec();
                body.splice(at..at, copy);
            }
            _ => drop(body.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
        }
    }
    body
}

#[test]
fn no_body_makes_the_endpoint_panic_and_what_it_takes_is_a_change() {
    let mut numbers = Numbers(20_261_124);
    let (mut taken, mut refused) = (0, 0);
    let bench = Bench::new();
    for round in 0..6_000 {
        let body = mutate(&mut numbers);
        let before = bench.queue.stored().len();
        let answer = bench.send(&Push::signed("crm", body.clone()));
        let shown = String::from_utf8_lossy(&body);
        match answer.status {
            202 => taken += 1,
            400 | 422 => refused += 1,
            other => panic!("round {round}: {other} for {shown}"),
        }
        let stored = bench.queue.stored();
        assert!(stored.len() - before <= answer.accepted().len(), "round {round}: {shown}");
        for stored in &stored[before..] {
            let change = Change::read(&stored.entry.body, &Limits::default());
            assert!(change.is_ok(), "round {round}: {shown}");
        }
        assert!(std::str::from_utf8(&body).is_ok() || answer.status == 400, "round {round}: {shown}");
    }
    println!("{taken} taken in part or whole, {refused} refused");
    assert!(taken > 200 && refused > 2_000, "the mutations reach both ends: {taken} {refused}");
}
