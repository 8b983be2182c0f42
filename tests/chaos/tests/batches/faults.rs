//! What happens to the calls of a batch.

use std::time::Duration;

use sync_testkit::proxy::{Fault, Pick, Proxy, Rule};

/// One way in which calls fail.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    fault: Fault,
    when: When,
}

#[derive(Debug, Clone, Copy)]
enum When {
    /// The first calls.
    First(u64),
    /// This part of the calls, at most so often: in the end everything goes through.
    Part(f64, u64),
}

impl Case {
    fn new(name: impl Into<String>, fault: Fault, when: When) -> Self {
        Self { name: name.into(), fault, when }
    }

    /// Lets it happen to the calls of an action that name something: a queue, a table.
    pub(crate) fn set(&self, proxy: &Proxy, service: &str, action: &str, with: &str) {
        let rule = Rule::on(service, action, self.fault.clone()).with(with);
        proxy.add(match self.when {
            When::First(calls) => rule.most(calls),
            When::Part(part, most) => rule.chance(part).most(most),
        });
    }

    /// Whether calls have their effect and whoever made them does not hear of it.
    pub(crate) fn has_its_effect_unseen(&self) -> bool {
        matches!(self.fault, Fault::Lose | Fault::Twice | Fault::Late(_))
    }

    /// Whether it happens in every run: one that is left to chance may have none.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self.when, When::First(_))
    }
}

/// Every case. The SDK tries a call three times, and an adapter an entry four times: more than that is told to the caller.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = (1..=10)
        .map(|some| {
            Case::new(
                format!("{some} entries of the first call fail"),
                Fault::Fail(Pick::Some(some)),
                When::First(1),
            )
        })
        .collect();
    let first = |name: &str, fault: Fault| {
        [1, 4].map(|calls| Case::new(format!("{name}, calls: {calls}"), fault.clone(), When::First(calls)))
    };
    cases.extend(first("throttled", Fault::Throttle));
    cases.extend(first("down", Fault::Down));
    cases.extend(first("cut off", Fault::Cut));
    cases.extend(first("answer lost", Fault::Lose));
    cases.extend([
        Case::new("all entries of six calls fail", Fault::Fail(Pick::All), When::First(6)),
        Case::new("entries fail by chance", Fault::Fail(Pick::Any), When::Part(0.5, 20)),
        Case::new("entries are refused by chance", Fault::Refuse(Pick::Any), When::Part(0.3, 8)),
        Case::new("answers are lost by chance", Fault::Lose, When::Part(0.4, 12)),
        Case::new("calls come twice", Fault::Twice, When::Part(0.5, 40)),
        Case::new("calls are overtaken", Fault::Overtaken(1), When::Part(0.5, 8)),
        // Longer than the SDK waits for an answer: it has sent the call again by then.
        Case::new(
            "a call arrives after it was given up",
            Fault::Late(Duration::from_secs(6)),
            When::First(1),
        ),
    ]);
    cases
}

/// The few that every wrong design has to fail at.
pub(crate) fn some_cases() -> Vec<Case> {
    vec![
        Case::new("three entries of the first call fail", Fault::Fail(Pick::Some(3)), When::First(1)),
        Case::new("the first answer is lost", Fault::Lose, When::First(1)),
        Case::new("the first call is cut off", Fault::Cut, When::First(1)),
    ]
}
