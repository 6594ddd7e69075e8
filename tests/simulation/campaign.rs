//! Which stories are run, on all cores, and what is printed of them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use clap::Parser;

use crate::{
    coverage::Coverage,
    plan::Plan,
    registries::{CLASSES, Class},
    run::run,
    scenario::{SCENARIOS, Scenario},
    story::{Story, Tally},
};

/// Violations that are printed of one story; the others are counted.
const SHOWN: usize = 3;

/// What is to be run.
#[derive(Parser)]
#[command(about = "Runs the operator against every class of registry, with every fault at every call")]
pub struct Arguments {
    /// Pairs of faults of each story: so many, drawn by the seed, or all
    #[arg(long, value_name = "N|all", default_value = "10", value_parser = count)]
    pub pairs: Count,
    /// Runs of each story with many faults, drawn by the seed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub walks: usize,
    /// What the dice begin with
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Switch each rule of the protocol off, or each with NAME in its own, and look for a run that is wrong without it
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub mutations: Option<String>,
    /// Print the list of calls that were seen
    #[arg(long)]
    pub coverage: bool,
    /// Print the calls of this one plan, in the words of a violation, for example `reply lost at create record`
    #[arg(long, value_name = "PLAN")]
    pub replay: Option<Plan>,
    /// Only stories with one of these in CLASS/STORY
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// So many, or all.
#[derive(Clone, Copy)]
pub struct Count(pub usize);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == usize::MAX { f.write_str("all") } else { self.0.fmt(f) }
    }
}

fn count(word: &str) -> Result<Count, std::num::ParseIntError> {
    if word == "all" { Ok(Count(usize::MAX)) } else { word.parse().map(Count) }
}

/// A class and a story.
pub type Pair = (&'static Class, &'static Scenario);

impl Arguments {
    /// The stories that are wanted.
    pub fn stories(&self) -> Vec<Pair> {
        let wanted = |name: String| {
            self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
        };
        all_stories().filter(|pair| wanted(name(*pair))).collect()
    }
}

/// Every story at every class where it makes sense.
pub fn all_stories() -> impl Iterator<Item = Pair> {
    let of_class = |class: &'static Class| SCENARIOS.iter().map(move |scenario| (class, scenario));
    CLASSES.iter().flat_map(of_class).filter(|(class, scenario)| (scenario.fits)(class))
}

/// Its name, by which it can be asked for.
pub fn name((class, scenario): Pair) -> String {
    format!("{}/{}", class.name, scenario.name)
}

/// Does something with each, on all cores.
pub fn on_all_cores<T: Copy + Sync>(all: &[T], what: impl Fn(T) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    what(*one);
                }
            });
        }
    });
}

/// Runs all that is wanted; false if something was violated.
pub fn run_all(arguments: &Arguments) -> bool {
    let stories = arguments.stories();
    if !arguments.coverage {
        println!(
            "{} stories, each with every single fault, {} pairs, {} walks; seed {}",
            stories.len(),
            arguments.pairs,
            arguments.walks,
            arguments.seed
        );
    }
    let (tallies, coverage) = (Mutex::<BTreeMap<&str, Tally>>::default(), Mutex::<Coverage>::default());
    on_all_cores(&stories, |(class, scenario)| {
        let tally = Story::new(class, scenario, &coverage).tell(arguments);
        if !arguments.coverage {
            print_story(&name((class, scenario)), &tally);
        }
        tallies.lock().unwrap().entry(class.name).or_default().add(tally);
    });
    let tallies = tallies.into_inner().unwrap();
    let coverage = coverage.into_inner().unwrap();
    let sound = tallies.values().all(|tally| tally.violations.is_empty());
    if arguments.coverage {
        print!("{}", coverage.list());
        return sound;
    }
    print_table(arguments, &tallies);
    let differs = if arguments.filters.is_empty() { coverage.differs() } else { Vec::new() };
    if !differs.is_empty() {
        println!(
            "\nOther calls than tests/simulation/coverage.txt names (--coverage prints it anew):\n{}",
            differs.join("\n")
        );
    }
    sound && differs.is_empty()
}

fn print_story(name: &str, tally: &Tally) {
    println!("{name}: {} plans in {:.1?}, {} violations", tally.plans(), tally.took, tally.violations.len());
    for violation in tally.violations.iter().take(SHOWN) {
        println!("    {violation}");
    }
}

fn print_table(arguments: &Arguments, tallies: &BTreeMap<&str, Tally>) {
    println!(
        "\n{:<18} {:>8} {:>9} {:>9} {:>7} {:>10} {:>10} {:>8} {:>8}",
        "class", "singles", "pairs", "of", "walks", "invariants", "violations", "orphans", "seconds"
    );
    for (class, tally) in tallies {
        println!(
            "{class:<18} {:>8} {:>9} {:>9} {:>7} {:>10} {:>10} {:>8} {:>8.1}",
            tally.singles,
            tally.pairs,
            tally.possible_pairs,
            tally.walks,
            tally.checked,
            tally.violations.len(),
            tally.orphans,
            tally.took.as_secs_f64()
        );
    }
    println!(
        "Seed {}. Orphans: the most that one plan left where nobody can find them; never more than it lost replies, and each is named.",
        arguments.seed
    );
}

/// Prints every call of one plan; false if something was violated.
pub fn replay(arguments: &Arguments, plan: &Plan) -> bool {
    arguments.stories().into_iter().all(|(class, scenario)| {
        let outcome = run(class, scenario, &plan.traced());
        println!(
            "{}\n{}\n{}",
            name((class, scenario)),
            outcome.trace.join("\n"),
            outcome.violations.join("\n")
        );
        outcome.violations.is_empty()
    })
}
