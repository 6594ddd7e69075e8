//! Which calls a run has seen, and which of them something went wrong at: a call that no plan disturbs is a hole in the proof.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{network::Seen, run::Outcome};

/// What is written down, to be compared with what is seen.
const WRITTEN: &str = include_str!("coverage.txt");

/// Of each class, its calls, and whether they were disturbed.
#[derive(Default)]
pub struct Coverage(BTreeMap<&'static str, BTreeMap<String, bool>>);

impl Coverage {
    /// Notes the calls of a run, and those at which its plan did something.
    pub fn note(&mut self, class: &'static str, outcome: &Outcome) {
        let of_class = self.0.entry(class).or_default();
        for call in &outcome.calls {
            let disturbed = of_class.entry(call.name.clone()).or_default();
            *disturbed |= call.disturbed;
        }
    }

    /// The calls of these that no plan of the class has disturbed.
    pub fn holes(&self, class: &str, calls: &[Seen]) -> Vec<usize> {
        let of_class = self.0.get(class);
        let disturbed =
            |name: &str| of_class.and_then(|calls| calls.get(name)).is_some_and(|disturbed| *disturbed);
        let mut names = BTreeSet::new();
        let mut holes = Vec::new();
        for (n, call) in calls.iter().enumerate() {
            if !disturbed(&call.name) && names.insert(&call.name) {
                holes.push(n);
            }
        }
        holes
    }

    /// The list, as it should be written down.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for (class, calls) in &self.0 {
            for (call, disturbed) in calls {
                let mark = if *disturbed { "" } else { "  NEVER DISTURBED" };
                // Writing to a String does not fail.
                let _ = writeln!(text, "{class:<18}{call}{mark}");
            }
        }
        text
    }

    /// How what was seen differs from what is written down, as lines to read.
    pub fn differs(&self) -> Vec<String> {
        let seen = self.list();
        let lines = |text: &str| -> BTreeSet<String> {
            text.lines()
                .filter(|line| !line.starts_with('#') && !line.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let (seen, written) = (lines(&seen), lines(WRITTEN));
        let new = seen.difference(&written).map(|line| format!("+ {line}"));
        let gone = written.difference(&seen).map(|line| format!("- {line}"));
        new.chain(gone).collect()
    }
}
