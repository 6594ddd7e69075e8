//! What each rule is for: without it, some run goes wrong that goes well with it. A rule that nobody misses is untested, or unnecessary.

use std::sync::Mutex;

use oauth_operator::reconcile::{
    next,
    protocol::{Rule, off},
};

use crate::{
    campaign::{Arguments, Pair, all_stories, name, on_all_cores},
    network::Seen,
    plan::{Plan, telling_faults_at},
    run::{Outcome, run},
    story,
    witnesses::{ONLY_SAY, WITNESSES, Witness},
};

/// Pairs that are tried of each story.
const PAIRS: usize = 150;
/// What is printed of a violation.
const SHOWN: usize = 110;

/// One rule that is switched off.
#[derive(Clone, Copy)]
enum Mutation {
    Protocol(Rule),
    Fact(usize, &'static str),
}

impl Mutation {
    fn all() -> Vec<Self> {
        let facts = next::NAMES.iter().enumerate().map(|(n, name)| Self::Fact(n, name));
        Rule::ALL.into_iter().map(Self::Protocol).chain(facts).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Protocol(rule) => format!("{rule:?}"),
            Self::Fact(_, name) => name.to_owned(),
        }
    }

    /// One run without the rule.
    fn run(self, (class, scenario): Pair, plan: &Plan) -> Outcome {
        match self {
            Self::Protocol(rule) => off::rule(Some(rule)),
            Self::Fact(n, _) => off::number(Some(n)),
        }
        let outcome = run(class, scenario, plan);
        off::rule(None);
        off::number(None);
        outcome
    }

    /// What goes wrong without the rule and well with it; nothing if nobody misses it here. The n-th call is another one without
    /// the rule, so plans are compared by their words.
    fn missed(self, pair: Pair, plan: &Plan) -> Option<Outcome> {
        let without = self.run(pair, plan);
        if without.violations.is_empty() {
            return None;
        }
        let said: Plan = without.met.join("; ").parse().expect("a plan is printed as it is read");
        let same = !self.run(pair, &said).violations.is_empty();
        (same && run(pair.0, pair.1, &said).violations.is_empty()).then_some(without)
    }
}

/// Prints the table; false if a rule was not missed where its witness says, or if a witness is of no rule.
pub fn table(arguments: &Arguments) -> bool {
    println!("{:<26} {:<9} plan, and what is wrong at its end without the rule", "without", "is");
    let named = arguments.mutations.as_deref().unwrap_or_default();
    let mutations: Vec<Mutation> =
        Mutation::all().into_iter().filter(|rule| rule.name().contains(named)).collect();
    let faults = Mutex::new(unknown());
    on_all_cores(&mutations, |mutation| {
        let name = mutation.name();
        let (verdict, fault) = judge(mutation, arguments);
        println!("{name:<26} {verdict}");
        faults.lock().unwrap().extend(fault.map(|fault| format!("{name}: {fault}")));
    });
    let faults = faults.into_inner().unwrap();
    for fault in &faults {
        println!("{fault}");
    }
    faults.is_empty()
}

fn unknown() -> Vec<String> {
    let rules: Vec<String> = Mutation::all().into_iter().map(Mutation::name).collect();
    let of_none = WITNESSES.iter().filter(|witness| !rules.iter().any(|rule| rule == witness.rule));
    of_none.map(|witness| format!("{}: no such rule", witness.rule)).collect()
}

/// What the table says of a rule, and what is to be done about it.
fn judge(mutation: Mutation, arguments: &Arguments) -> (String, Option<String>) {
    let rule = mutation.name();
    if ONLY_SAY.contains(&rule.as_str()) {
        return ("told      by the tables of next/tests/rules.rs".into(), None);
    }
    for witness in WITNESSES.iter().filter(|witness| witness.rule == rule) {
        let Some(pair) = all_stories().find(|pair| name(*pair) == witness.story) else {
            return ("unknown".into(), Some(format!("there is no story {}", witness.story)));
        };
        let plan = witness.plan.parse().unwrap_or_else(|why| panic!("{rule}: {why}"));
        if let Some(outcome) = mutation.missed(pair, &plan) {
            return (necessary(witness.story, witness.plan, &outcome), None);
        }
    }
    match search(mutation, arguments) {
        Some((story, outcome)) => {
            let plan = outcome.met.join("; ");
            let row = Witness { rule: "", story: &story, plan: &plan };
            (
                necessary(&story, &plan, &outcome),
                Some(format!("its witness says nothing; this one does: {:?}, {:?}", row.story, row.plan)),
            )
        }
        None => ("unmissed".into(), Some("no run goes wrong without it".into())),
    }
}

fn necessary(story: &str, plan: &str, outcome: &Outcome) -> String {
    let wrong: String = outcome.violations[0].chars().take(SHOWN).collect();
    format!("necessary {story} [{plan}] {wrong}")
}

/// First the stories as they are, then with one fault, then with two.
fn search(mutation: Mutation, arguments: &Arguments) -> Option<(String, Outcome)> {
    let stories = arguments.stories();
    let quiet = |_: &Pair| vec![Plan::default()];
    let two = |pair: &Pair| pairs(*pair, arguments.seed);
    let first = |plans: &dyn Fn(&Pair) -> Vec<Plan>| {
        stories.iter().find_map(|pair| {
            let found = plans(pair).iter().find_map(|plan| mutation.missed(*pair, plan));
            found.map(|outcome| (name(*pair), outcome))
        })
    };
    first(&quiet).or_else(|| first(&singles)).or_else(|| first(&two))
}

fn singles((class, scenario): &Pair) -> Vec<Plan> {
    let quiet = run(class, scenario, &Plan::default());
    story::singles(&quiet).map(|(_, plan)| plan).chain(story::meddled(&quiet)).collect()
}

fn pairs(pair: Pair, seed: u64) -> Vec<Plan> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut firsts = singles(&pair);
    dice.shuffle(&mut firsts);
    let second = |first: &Plan| {
        let calls: Vec<Seen> = run(pair.0, pair.1, first).calls;
        let n = dice.usize(..calls.len().max(1));
        let faults = calls.get(n).map(telling_faults_at).unwrap_or_default();
        dice.choice(faults).map(|fault| first.and(n, fault))
    };
    firsts.iter().take(PAIRS).filter_map(second).collect()
}
