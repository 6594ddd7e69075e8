//! One story at one class of registry: undisturbed, with every fault at every call, with two of them, with many.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{
    acts::MEANWHILE,
    campaign::{Arguments, name},
    coverage::Coverage,
    network::Seen,
    plan::{Fault, Plan, WATCH_FAULTS, faults_at, telling_faults_at},
    registries::Class,
    run::{Outcome, run},
    scenario::Scenario,
    witnesses::FOUND,
};

/// Calls in which a walk meets its faults.
const WALK: usize = 60;

/// For each pair of faults that is tried, runs in which somebody does something instead.
const MEDDLED: usize = 3;

/// What came out of the plans of one story.
#[derive(Default)]
pub struct Tally {
    pub singles: usize,
    pub pairs: usize,
    /// How many pairs there are that can differ from each other.
    pub possible_pairs: usize,
    pub walks: usize,
    /// How often something was held against an invariant.
    pub checked: usize,
    pub orphans: usize,
    pub violations: Vec<String>,
    pub took: Duration,
}

impl Tally {
    pub fn plans(&self) -> usize {
        self.singles + self.pairs + self.walks
    }

    pub fn add(&mut self, other: Self) {
        self.singles += other.singles;
        self.pairs += other.pairs;
        self.possible_pairs += other.possible_pairs;
        self.walks += other.walks;
        self.checked += other.checked;
        self.orphans = self.orphans.max(other.orphans);
        self.took += other.took;
        self.violations.extend(other.violations);
    }
}

/// One story, and what came out of its plans so far.
pub struct Story<'a> {
    class: &'static Class,
    scenario: &'static Scenario,
    coverage: &'a Mutex<Coverage>,
    tally: Tally,
}

impl<'a> Story<'a> {
    pub fn new(class: &'static Class, scenario: &'static Scenario, coverage: &'a Mutex<Coverage>) -> Self {
        Self { class, scenario, coverage, tally: Tally::default() }
    }

    /// All plans of the story.
    pub fn tell(mut self, arguments: &Arguments) -> Tally {
        #[expect(clippy::disallowed_methods, reason = "what a person waits for")]
        let began = Instant::now();
        let quiet = self.quiet();
        self.found();
        let (unforeseen, pairs) = self.singles(&quiet);
        let mut dice = fastrand::Rng::with_seed(arguments.seed);
        if self.scenario.then.is_none() {
            self.watches(&quiet);
            self.meddle(&quiet, arguments.pairs.0, &mut dice);
        }
        self.pairs(unforeseen, pairs, arguments.pairs.0, &quiet.end, &mut dice);
        for _ in 0..arguments.walks {
            let faults = if self.class.findable { 6 } else { 2 };
            self.try_plan(&Plan::walk(dice.u64(..), faults, WALK), None);
            self.tally.walks += 1;
        }
        self.tally.took = began.elapsed();
        self.tally
    }

    /// Nothing goes wrong. Twice, for whatever is not the same then cannot be found again by its plan.
    fn quiet(&mut self) -> Outcome {
        let quiet = self.try_plan(&Plan::default(), None);
        let again = self.try_plan(&Plan::default(), Some(&quiet.end));
        // Of those that are due at the same time, the queue takes any first.
        if self.scenario.ready < 2 && names(&quiet.calls).ne(names(&again.calls)) {
            self.tally.violations.push("the same plan ran in two ways".into());
        }
        self.tally.singles += 2;
        quiet
    }

    /// What went wrong here once.
    fn found(&mut self) {
        let story = name((self.class, self.scenario));
        for found in FOUND.iter().filter(|found| found.story == story) {
            let plan: Plan = found.plan.parse().expect("a plan is printed as it is read");
            let outcome = self.try_plan(&plan, None);
            if outcome.met.join("; ") != found.plan {
                self.tally.violations.push(format!("[{}] never happens", found.plan));
            }
            self.tally.singles += 1;
        }
    }

    /// Every single fault. Returns the pairs that can tell something: those at calls that only a first fault brings about, and the others.
    fn singles(&mut self, quiet: &Outcome) -> (Vec<Plan>, Vec<Plan>) {
        let (mut unforeseen, mut pairs) = (Vec::new(), Vec::new());
        let (mut known, mut ways) = (BTreeSet::new(), BTreeSet::new());
        for (first, plan) in singles(quiet) {
            let outcome = self.try_plan(&plan, Some(&quiet.end));
            self.tally.singles += 1;
            for n in self.coverage.lock().unwrap().holes(self.class.name, &outcome.calls) {
                let call = &outcome.calls[n];
                if n > first && known.insert(call.name.clone()) {
                    unforeseen.extend(faults_at(call).into_iter().map(|fault| plan.and(n, fault)));
                }
            }
            if ways.insert(way(&outcome)) {
                let end =
                    if plan.is_idle(&quiet.calls[first]) { parting(&outcome, quiet) } else { usize::MAX };
                let later = points(&outcome.calls).filter(|n| *n > first && *n < end);
                let others = plan.freezes() && self.scenario.then.is_none();
                for n in later {
                    let faults = telling_faults_at(&outcome.calls[n]).into_iter();
                    let acts = MEANWHILE.iter().filter(|_| others).map(Fault::Meanwhile);
                    pairs.extend(faults.chain(acts).map(|fault| plan.and(n, fault)));
                }
            }
        }
        (unforeseen, pairs)
    }

    /// Somebody does something at any call: so many of what people do besides for each pair of faults that is tried.
    fn meddle(&mut self, quiet: &Outcome, pairs: usize, dice: &mut fastrand::Rng) {
        let mut plans: Vec<Plan> = meddled(quiet).collect();
        self.tally.possible_pairs += plans.len();
        dice.shuffle(&mut plans);
        for plan in plans.into_iter().take(pairs.saturating_mul(MEDDLED)) {
            self.try_plan(&plan, None);
            self.tally.pairs += 1;
        }
    }

    /// Any event of a watch goes wrong.
    fn watches(&mut self, quiet: &Outcome) {
        for n in 0..quiet.events {
            for fault in WATCH_FAULTS {
                self.try_plan(&Plan::at_event(n, fault), Some(&quiet.end));
                self.tally.singles += 1;
            }
        }
    }

    /// Two faults in one run, so many of those that can tell something; of the unforeseen ones all.
    fn pairs(
        &mut self,
        unforeseen: Vec<Plan>,
        mut pairs: Vec<Plan>,
        count: usize,
        end: &str,
        dice: &mut fastrand::Rng,
    ) {
        self.tally.possible_pairs += unforeseen.len() + pairs.len();
        dice.shuffle(&mut pairs);
        for plan in unforeseen.into_iter().chain(pairs.into_iter().take(count)) {
            self.try_plan(&plan, Some(end));
            self.tally.pairs += 1;
        }
    }

    /// One run. It must end as it would have without faults, if that is told.
    fn try_plan(&mut self, plan: &Plan, end: Option<&str>) -> Outcome {
        let outcome = run(self.class, self.scenario, plan);
        self.coverage.lock().unwrap().note(self.class.name, &outcome);
        self.tally.checked += outcome.checked;
        self.tally.orphans = self.tally.orphans.max(outcome.orphans);
        let mut wrong = outcome.violations.clone();
        if wrong.is_empty() && !plan.meddles() && end.is_some_and(|end| end != outcome.end) {
            wrong.push(format!("I6: another end than without faults: {}", outcome.end));
        }
        if !wrong.is_empty() {
            self.tally.violations.push(format!("[{}] {}", outcome.met.join("; "), wrong.join("; ")));
        }
        outcome
    }
}

/// Every single fault at every call, and the number of the call.
pub fn singles(quiet: &Outcome) -> impl Iterator<Item = (usize, Plan)> {
    let faults = |n: usize| faults_at(&quiet.calls[n]).into_iter().map(move |fault| (n, Plan::at(n, fault)));
    points(&quiet.calls).flat_map(faults)
}

/// Somebody does something at any call.
pub fn meddled(quiet: &Outcome) -> impl Iterator<Item = Plan> {
    let acts = |n: usize| MEANWHILE.iter().map(move |act| Plan::at(n, Fault::Meanwhile(act)));
    points(&quiet.calls).flat_map(acts)
}

/// The calls that can differ from each other: where nothing was written since, the same call meets the same world once more.
pub fn points(calls: &[Seen]) -> impl Iterator<Item = usize> {
    let mut met = BTreeSet::new();
    calls
        .iter()
        .enumerate()
        .filter(move |(_, call)| met.insert((&call.name, &call.target, call.epoch)))
        .map(|(n, _)| n)
}

/// From this call on a run goes on as the undisturbed one did to its end.
fn parting(outcome: &Outcome, quiet: &Outcome) -> usize {
    let (calls, others) = (telling(&outcome.calls), telling(&quiet.calls));
    let same =
        calls.clone().rev().zip(others.rev()).take_while(|((_, one), (_, other))| one.name == other.name);
    let same = same.count();
    calls.rev().nth(same).map_or(0, |(n, _)| n + 1)
}

/// What two plans have in common that need not both be tried with a second fault: the same calls, one after another.
fn way(outcome: &Outcome) -> u64 {
    let mut hasher = DefaultHasher::new();
    names(&outcome.calls).for_each(|name| name.hash(&mut hasher));
    hasher.finish()
}

fn names(calls: &[Seen]) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    telling(calls).map(|(_, call)| (call.name.as_str(), call.target.as_str()))
}

/// All but what goes on beside everything: the Lease is renewed every few seconds, whatever happens.
fn telling(calls: &[Seen]) -> impl DoubleEndedIterator<Item = (usize, &Seen)> + Clone {
    calls.iter().enumerate().filter(|(_, call)| !call.is_of_the_lease())
}
