//! What goes wrong in a run: faults, each at one call or one event, and the words in which a plan is printed and read again.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;

use crate::{
    acts::MEANWHILE,
    network::{Outside, Seen},
};

/// What becomes of one exchange.
#[derive(Clone, Copy)]
pub enum Fault {
    /// No connection: it never left.
    Refused,
    /// It never arrives, and no reply comes.
    Lost,
    /// It has its effect, and no reply comes.
    ReplyLost,
    /// It has its effect, and half of the reply comes.
    ReplyCut,
    /// It has its effect, and the reply is larger than any should be.
    ReplyHuge,
    /// It arrives when its sender has given up.
    Late,
    /// It arrives twice.
    Twice,
    /// It has no effect and this answer.
    Answered(u16),
    /// The operator dies before it is sent.
    CrashBefore,
    /// It has its effect, and the operator dies before the reply.
    CrashAfter,
    /// The operator dies, and it arrives when the next one has long begun.
    CrashLate,
    /// It has its effect, the operator dies, and the next one is first shown how everything was when the story began.
    CrashBehind,
    /// It has its effect, and whoever reads the reply panics; the operator goes on.
    Panics,
    /// The operator stands still for longer than a lease, another one takes over, and then the first goes on.
    Frozen,
    /// Somebody does something first.
    Meanwhile(&'static Act),
}

/// What somebody does to the world.
pub struct Act {
    pub name: &'static str,
    pub act: fn(&mut Outside, Timestamp),
}

/// What becomes of one event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// It and all after it come much later.
    Behind,
    /// The connection breaks instead.
    Broken,
    /// The server has forgotten: everything is to be listed again.
    Forgotten,
    /// It comes twice.
    Repeated,
    /// It never comes; some time later the server has forgotten.
    Missed,
    /// The next event comes before it.
    Swapped,
}

pub const WATCH_FAULTS: [WatchFault; 6] = [
    WatchFault::Behind,
    WatchFault::Broken,
    WatchFault::Forgotten,
    WatchFault::Repeated,
    WatchFault::Missed,
    WatchFault::Swapped,
];

const PLAIN: [(Fault, &str); 13] = [
    (Fault::Refused, "refused"),
    (Fault::Lost, "lost"),
    (Fault::ReplyLost, "reply lost"),
    (Fault::ReplyCut, "reply cut"),
    (Fault::ReplyHuge, "reply huge"),
    (Fault::Late, "late"),
    (Fault::Twice, "twice"),
    (Fault::CrashBefore, "crash before"),
    (Fault::CrashAfter, "crash after"),
    (Fault::CrashLate, "crash, then late"),
    (Fault::CrashBehind, "crash after, then behind"),
    (Fault::Panics, "panics"),
    (Fault::Frozen, "frozen"),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(code) => write!(f, "{code}"),
            Self::Meanwhile(act) => f.write_str(act.name),
            plain => {
                let same = |other: &Fault| std::mem::discriminant(other) == std::mem::discriminant(plain);
                let name = PLAIN.iter().find(|(fault, _)| same(fault)).map_or("", |(_, name)| name);
                f.write_str(name)
            }
        }
    }
}

impl Fault {
    /// Whether a reply is lost by it for ever: then a client may be left that nobody can find. Nothing is lost by standing still.
    pub fn loses(self) -> bool {
        !matches!(self, Self::Refused | Self::Answered(_) | Self::Frozen | Self::Meanwhile(_))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        if let Some((fault, _)) = PLAIN.iter().find(|(_, name)| *name == words) {
            return Ok(*fault);
        }
        if let Some(act) = MEANWHILE.iter().find(|act| act.name == words) {
            return Ok(Self::Meanwhile(act));
        }
        words.parse().map(Self::Answered).map_err(|_| format!("there is no fault {words:?}"))
    }
}

/// Where something happens.
#[derive(Clone)]
enum At {
    /// At the n-th call or event, counted over all operators from the moment that the plan is for.
    Number(usize),
    /// At the n-th of this name; the first is 1.
    Name(String, usize),
}

impl At {
    fn is(&self, number: usize, name: &str, nth: usize) -> bool {
        match self {
            Self::Number(n) => *n == number,
            Self::Name(wanted, n) => wanted == name && *n == nth,
        }
    }
}

/// The faults of one run.
#[derive(Clone, Default)]
pub struct Plan {
    calls: Vec<(At, Fault)>,
    events: Vec<(At, WatchFault)>,
    /// Faults at the n-th call; which one is told by a number, out of those that fit the call.
    drawn: Vec<(usize, usize)>,
    /// How often a call or an event of a name has come.
    counts: BTreeMap<String, usize>,
    /// Whether the calls are written down.
    pub is_traced: bool,
}

impl Plan {
    /// One fault at the n-th call.
    pub fn at(n: usize, fault: Fault) -> Self {
        Self::default().and(n, fault)
    }

    /// The same, and this.
    pub fn and(&self, n: usize, fault: Fault) -> Self {
        let mut plan = self.clone();
        plan.calls.push((At::Number(n), fault));
        plan
    }

    /// One fault at the n-th event.
    pub fn at_event(n: usize, fault: WatchFault) -> Self {
        Self { events: vec![(At::Number(n), fault)], ..Self::default() }
    }

    /// A walk of so many faults within the first so many calls.
    pub fn walk(seed: u64, faults: usize, calls: usize) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let drawn = (0..faults).map(|_| (dice.usize(..calls), dice.usize(..))).collect();
        Self { drawn, ..Self::default() }
    }

    /// The same, and its calls are written down.
    pub fn traced(&self) -> Self {
        Self { is_traced: true, ..self.clone() }
    }

    /// Whether somebody does something in between.
    pub fn meddles(&self) -> bool {
        self.calls.iter().any(|(_, fault)| matches!(fault, Fault::Meanwhile(_)))
    }

    /// Whether its one fault, at this call, leaves the world as it was: whoever goes on as if nothing had been cannot meet it again.
    pub fn is_idle(&self, call: &Seen) -> bool {
        use Fault::{Answered, CrashBefore, Frozen, Lost, Refused};
        let idle = |fault: &Fault| match fault {
            Refused | Lost | Answered(_) | CrashBefore => true,
            Frozen => false,
            _ => !call.writes,
        };
        self.calls.iter().all(|(_, fault)| idle(fault))
    }

    /// Whether an operator stands still for a while, or may.
    pub fn freezes(&self) -> bool {
        self.calls.iter().any(|(_, fault)| matches!(fault, Fault::Frozen)) || !self.drawn.is_empty()
    }

    /// What becomes of the n-th call, and where that is, in words.
    pub fn take(&mut self, n: usize, call: &Seen) -> Option<(Fault, String)> {
        let nth = self.count(&call.name);
        let fault = if let Some(found) = self.calls.iter().position(|(at, _)| at.is(n, &call.name, nth)) {
            self.calls.remove(found).1
        } else {
            let found = self.drawn.iter().position(|(at, _)| *at == n)?;
            let faults = faults_at(call);
            faults[self.drawn.remove(found).1 % faults.len()]
        };
        Some((fault, said(&fault, &call.name, nth)))
    }

    /// What becomes of the n-th event, of this resource, and where that is, in words.
    pub fn take_event(&mut self, n: usize, resource: &str) -> Option<(WatchFault, String)> {
        let name = format!("event of {resource}");
        let nth = self.count(&name);
        let found = self.events.iter().position(|(at, _)| at.is(n, &name, nth))?;
        let fault = self.events.remove(found).1;
        Some((fault, said(&format!("{fault:?}").to_lowercase(), &name, nth)))
    }

    fn count(&mut self, name: &str) -> usize {
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }
}

fn said(fault: &impl fmt::Display, name: &str, nth: usize) -> String {
    if nth == 1 { format!("{fault} at {name}") } else { format!("{fault} at {name} #{nth}") }
}

/// Reads what [`Plan::take`] says, separated by semicolons.
impl FromStr for Plan {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for part in words.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (fault, place) = part.split_once(" at ").ok_or_else(|| format!("{part:?} says no place"))?;
            let (name, nth) = place.split_once(" #").unwrap_or((place, "1"));
            let nth = nth.parse().map_err(|_| format!("{part:?} says no number"))?;
            let at = At::Name(name.to_owned(), nth);
            if name.starts_with("event of ") {
                let same = |known: &&WatchFault| format!("{known:?}").to_lowercase() == fault;
                let known = WATCH_FAULTS.iter().find(same);
                plan.events.push((at, *known.ok_or_else(|| format!("there is no fault {fault:?}"))?));
            } else {
                plan.calls.push((at, fault.parse()?));
            }
        }
        Ok(plan)
    }
}

/// The faults that make sense at a call.
pub fn faults_at(call: &Seen) -> Vec<Fault> {
    use Fault::{
        Answered, CrashAfter, CrashBefore, CrashBehind, CrashLate, Frozen, Late, Lost, Panics, Refused,
        ReplyCut, ReplyHuge, ReplyLost, Twice,
    };
    let mut faults = vec![Refused, Lost, ReplyCut, Answered(429), Answered(500), CrashBefore, Frozen];
    if call.writes {
        faults.extend([ReplyLost, Late, Twice, CrashAfter, CrashLate, CrashBehind]);
    }
    if call.to_registry {
        faults.extend([ReplyHuge, Answered(503), Answered(401), Answered(403), Panics]);
    } else if call.writes {
        faults.push(Answered(409));
    } else if call.name.starts_with("list") {
        faults.push(Answered(410));
    }
    // Of a registry that can be asked twice: one that says so of a deletion has lied for ever.
    if call.to_registry && call.findable && !call.writes {
        faults.push(Answered(404));
    }
    faults
}

/// One of each kind of effect, for pairs: a call that had no effect leaves the same world behind whatever its sender was told, and a
/// read has none at all.
pub fn telling_faults_at(call: &Seen) -> Vec<Fault> {
    use Fault::{CrashAfter, CrashBefore, CrashLate, Frozen, Late, ReplyLost, Twice};
    if call.writes {
        vec![Fault::Answered(500), ReplyLost, Late, Twice, CrashBefore, CrashAfter, CrashLate, Frozen]
    } else {
        vec![Fault::Lost, CrashBefore, Frozen]
    }
}
