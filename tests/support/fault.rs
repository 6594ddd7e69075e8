//! Which call goes wrong, and how: the plan that one or several proxies carry out.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::time::Instant;

/// Counts calls, remembers them, and says which of them goes wrong. Its clones are one and the same plan, so that "the
/// third call" can be counted over the API server and a registry together.
#[derive(Clone, Default)]
pub struct FaultPlan(Arc<Mutex<State>>);

/// On which side of the call the fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The call has no effect: it never reaches the server.
    BeforeForward,
    /// The call has had its effect, but its answer is not delivered.
    AfterAnswer,
}

/// What happens instead of an answer.
#[derive(Clone)]
pub enum Action {
    /// Calls the closure, which kills the caller, and never answers.
    Kill(Arc<dyn Fn() + Send + Sync>),
    /// Calls the closure and goes on as if nothing were wrong.
    Tell(Arc<dyn Fn() + Send + Sync>),
    /// Closes the connection without a word.
    Drop,
    /// Answers with this status and JSON body.
    Answer(u16, String),
    /// Answers 429, with `Retry-After` in seconds or without.
    TooManyRequests(Option<u32>),
}

/// A call that a proxy has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which proxy: `api` or `registry`.
    pub to: &'static str,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// Counted from 1; none for calls that do not count.
    pub number: Option<usize>,
    /// When it came.
    pub at: Instant,
    /// What the server said; none as long as it has not.
    pub status: Option<u16>,
    /// Whether something went wrong with it as planned.
    pub faulty: bool,
}

/// Which call a fault waits for.
#[derive(Clone, Debug)]
enum Target {
    /// The one of this number.
    Number(usize),
    /// The first of this method whose path holds this.
    Path(&'static str, String),
}

/// A fault in waiting.
#[derive(Clone, Debug)]
pub struct Fault {
    target: Target,
    /// On which side of the call.
    pub when: When,
    /// What happens there.
    pub action: Action,
}

#[derive(Default)]
struct State {
    counted: usize,
    armed: Vec<Fault>,
    storms: Vec<(&'static str, Action)>,
    fired: usize,
    /// How often it was started afresh: calls from before are not recorded any more.
    round: usize,
    calls: Vec<Call>,
}

/// A call on its way.
#[derive(Clone, Copy)]
pub struct Ticket {
    round: usize,
    index: usize,
}

impl FaultPlan {
    /// A plan under which nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `number`-th counted call (from 1, since the last `reset`) goes wrong. Each fault strikes once.
    pub fn at(&self, number: usize, when: When, action: Action) {
        self.state().armed.push(Fault { target: Target::Number(number), when, action });
    }

    /// The first call of this method whose path holds `fragment` goes wrong, whether it counts or not.
    pub fn on(&self, method: &'static str, fragment: &str, when: When, action: Action) {
        self.state().armed.push(Fault { target: Target::Path(method, fragment.to_owned()), when, action });
    }

    /// From now on all calls to a proxy of this name go wrong so, until `calm`.
    pub fn storm(&self, to: &'static str, action: Action) {
        self.state().storms.push((to, action));
    }

    /// The storms are over.
    pub fn calm(&self) {
        self.state().storms.clear();
    }

    /// Counts from 1 again, forgets the calls seen and the faults still waiting.
    pub fn reset(&self) {
        let mut state = self.state();
        *state = State { round: state.round + 1, ..State::default() };
    }

    /// How many calls counted so far.
    pub fn counted(&self) -> usize {
        self.state().counted
    }

    /// How many faults have struck.
    pub fn fired(&self) -> usize {
        self.state().fired
    }

    /// Everything seen, in the order in which it came.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// One call a line, for assertion messages.
    pub fn describe(&self) -> String {
        let lines: Vec<_> = self.calls().iter().map(Call::to_string).collect();
        lines.join("\n")
    }

    /// A proxy has received a call: what goes wrong with it, if anything.
    pub fn begin(&self, to: &'static str, method: &str, path: &str, counts: bool) -> (Ticket, Option<Fault>) {
        let mut state = self.state();
        let number = counts.then(|| {
            state.counted += 1;
            state.counted
        });
        let due = state.armed.iter().position(|fault| fault.target.is(number, method, path));
        let fault = due.map(|index| state.armed.remove(index)).or_else(|| state.storm_at(to));
        let (method, path) = (method.to_owned(), path.to_owned());
        let (at, faulty) = (Instant::now(), fault.is_some());
        state.calls.push(Call { to, method, path, number, at, status: None, faulty });
        (Ticket { round: state.round, index: state.calls.len() - 1 }, fault)
    }

    /// The server has answered that call.
    pub fn answered(&self, ticket: Ticket, status: u16) {
        let mut state = self.state();
        if state.round == ticket.round {
            state.calls[ticket.index].status = Some(status);
        }
    }

    /// The fault strikes now.
    pub fn strike(&self, ticket: Ticket) {
        let mut state = self.state();
        if state.round == ticket.round {
            state.fired += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn storm_at(&self, to: &str) -> Option<Fault> {
        let (_, action) = self.storms.iter().find(|(place, _)| *place == to)?;
        let target = Target::Path("", String::new());
        Some(Fault { target, when: When::BeforeForward, action: action.clone() })
    }
}

impl Target {
    fn is(&self, number: Option<usize>, method: &str, path: &str) -> bool {
        match self {
            Self::Number(wanted) => Some(*wanted) == number,
            Self::Path(wanted, fragment) => *wanted == method && path.contains(fragment.as_str()),
        }
    }
}

impl Action {
    /// Calls `kill` (see `Operator::killer`) and never answers.
    pub fn kill(kill: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Kill(Arc::new(kill))
    }

    /// Calls `tell` and goes on.
    pub fn tell(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Tell(Arc::new(tell))
    }
}

impl Debug for Action {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(_) => write!(formatter, "Kill"),
            Self::Tell(_) => write!(formatter, "Tell"),
            Self::Drop => write!(formatter, "Drop"),
            Self::Answer(status, body) => write!(formatter, "Answer({status}, {body})"),
            Self::TooManyRequests(after) => write!(formatter, "TooManyRequests({after:?})"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let number = self.number.map_or("-".to_owned(), |number| number.to_string());
        let status = self.status.map_or("no answer".to_owned(), |status| status.to_string());
        let faulty = if self.faulty { ", faulty" } else { "" };
        write!(formatter, "{number:>4} {} {} {}: {status}{faulty}", self.to, self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_method_and_path_too() {
        let plan = FaultPlan::new();
        plan.on("POST", "/secret", When::AfterAnswer, Action::Drop);
        let strikes = |method, path| plan.begin("registry", method, path, false).1.is_some();
        assert!(!strikes("GET", "/a/secret") && !strikes("POST", "/a"), "another call");
        assert!(strikes("POST", "/a/secret"));
        assert!(!strikes("POST", "/a/secret"), "it strikes once");
    }

    #[test]
    fn counts_over_both_servers_and_strikes_once() {
        let plan = FaultPlan::new();
        plan.at(2, When::BeforeForward, Action::Drop);
        let (_, first) = plan.begin("api", "PATCH", "/a", true);
        let (_, uncounted) = plan.begin("api", "GET", "/leases", false);
        let (ticket, second) = plan.clone().begin("registry", "POST", "/register", true);
        assert!(first.is_none() && uncounted.is_none());
        assert_eq!(second.unwrap().when, When::BeforeForward);
        plan.strike(ticket);
        plan.answered(ticket, 201);
        assert_eq!((plan.counted(), plan.fired()), (2, 1));
        assert!(
            plan.describe().ends_with("   2 registry POST /register: 201, faulty"),
            "{}",
            plan.describe()
        );

        plan.reset();
        plan.answered(ticket, 500);
        assert_eq!((plan.counted(), plan.fired(), plan.calls()), (0, 0, vec![]));
        assert!((0..3).all(|_| plan.begin("api", "PATCH", "/a", true).1.is_none()));
    }
}
