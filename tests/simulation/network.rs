//! Carries the requests of operators to the API server and to the registry, each as its plan says: some get lost, some arrive
//! twice, some arrive when nobody waits for them any more, and some are the last that their operator ever sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use http::{Response, StatusCode};
use oauth_operator::{clock::Clock, registry::transport::Connect};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    cluster::{self, Cluster},
    invariants,
    plan::{Fault, Plan},
    providers,
    registries::{Class, Registry},
    wire::Road,
};

/// How long a request and its reply take each.
pub const LATENCY: Duration = Duration::from_millis(2);
/// When what is late arrives: its sender has given up, and everything else has long gone on.
const LATE: Duration = Duration::from_secs(25);
/// How long a frozen operator stands still: longer than any lease, and than others wait for its requests.
const FREEZE: Duration = Duration::from_secs(100);
/// When kube's client gives up by itself.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
/// How long a watch is behind that is.
pub const LAG: Duration = Duration::from_secs(40);

/// What the world has to see to.
pub enum Happened {
    /// An operator died, or stands still: another one takes over.
    OperatorFailed,
}

/// A request on its way.
#[derive(Clone)]
pub enum Call {
    Kubernetes(cluster::Request),
    Registry(providers::Request),
}

/// What comes back.
pub enum Reply {
    Kubernetes(cluster::Answer),
    Registry(Option<providers::Reply>),
}

/// How an exchange ended, as the sender sees it.
pub enum End {
    Reply(Reply),
    /// The reply arrived in part.
    Cut(Reply),
    /// The reply was larger than anybody reads.
    Huge,
    /// No connection.
    Refused,
    /// Nothing, ever.
    Silence,
}

/// One call that a run has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own, in any combination")]
pub struct Seen {
    pub name: String,
    /// What it is about, more exactly than its name says.
    pub target: String,
    pub writes: bool,
    pub to_registry: bool,
    /// Whether its registry can be asked in another way too.
    pub findable: bool,
    /// How much had been written before it.
    pub epoch: usize,
    /// Since the plan began.
    pub at: Duration,
    /// Whether something went wrong with it.
    pub disturbed: bool,
}

impl Seen {
    /// Whether it is about who works, and not about what is worked on.
    pub fn is_of_the_lease(&self) -> bool {
        self.name.ends_with(" leases")
    }
}

/// Everything outside the operators.
pub struct Outside {
    pub cluster: Cluster,
    pub registry: Box<dyn Registry>,
    pub plan: Plan,
    /// Calls and events are counted from the moment that the plan is for.
    pub armed: Option<Instant>,
    calls: Vec<Seen>,
    pub events: usize,
    /// All calls, those before the plan included.
    pub sent: usize,
    /// How often an operator has changed something.
    epoch: usize,
    pub findable: bool,
    rotates_on_read: bool,
    /// Whether there are many clients, of which one is like the other.
    symmetric: bool,
    /// The version that everything had when the plan began.
    beginning: u64,
    /// Operators that begin after this one are shown that version, until this time.
    pub behind: Option<(usize, Instant)>,
    listed: BTreeSet<(usize, String)>,
    /// What went wrong, in words that make a plan.
    pub met: Vec<String>,
    /// How many replies may have got lost for ever.
    pub lost: usize,
    /// How many requests the network has made two of.
    pub doubled: usize,
    /// How often something was held against an invariant.
    pub checked: usize,
    pub dead: BTreeSet<usize>,
    pub frozen: BTreeMap<usize, Instant>,
    /// Since when the Lease of an operator has been another's.
    pub deposed: BTreeMap<usize, Instant>,
    /// When something was last changed by an operator.
    pub last_write: Instant,
    /// How many calls had been seen by then.
    pub calls_until_rest: usize,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    on_the_way: usize,
    /// The registry's credentials, as they should be.
    pub credentials: serde_json::Value,
    /// A backup of one object.
    pub saved: Option<(cluster::Place, serde_json::Value)>,
    /// What every client declares.
    pub spec: serde_json::Value,
}

/// The network, shared by all.
#[derive(Clone)]
pub struct Network {
    outside: Arc<Mutex<Outside>>,
    happened: mpsc::UnboundedSender<Happened>,
    pub clock: Clock,
    /// Whether what Ready says must be true at every moment.
    strict: bool,
}

impl Network {
    pub fn new(
        class: &Class,
        symmetric: bool,
        plan: Plan,
        clock: Clock,
        strict: bool,
    ) -> (Self, mpsc::UnboundedReceiver<Happened>) {
        let (happened, told) = mpsc::unbounded_channel();
        let outside = Outside {
            cluster: Cluster::default(),
            registry: (class.open)(),
            plan,
            armed: None,
            calls: Vec::new(),
            events: 0,
            sent: 0,
            epoch: 0,
            findable: class.findable,
            rotates_on_read: class.rotates_on_read,
            symmetric,
            beginning: 0,
            behind: None,
            listed: BTreeSet::new(),
            met: Vec::new(),
            lost: 0,
            doubled: 0,
            checked: 0,
            dead: BTreeSet::new(),
            frozen: BTreeMap::new(),
            deposed: BTreeMap::new(),
            last_write: Instant::now(),
            calls_until_rest: 0,
            violations: Vec::new(),
            trace: Vec::new(),
            on_the_way: 0,
            credentials: serde_json::Value::Null,
            saved: None,
            spec: serde_json::Value::Null,
        };
        (Self { outside: Arc::new(Mutex::new(outside)), happened, clock, strict }, told)
    }

    pub fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way of one operator to the API server.
    pub fn to_cluster(&self, who: usize) -> kube::Client {
        let network = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let network = network.clone();
            async move { network.kubernetes(who, request).await }
        });
        kube::Client::new(service, "shop")
    }

    /// The way of one operator to registries.
    pub fn to_registries(&self, who: usize) -> Arc<dyn Connect> {
        Arc::new(Road { network: self.clone(), who })
    }

    async fn kubernetes(
        &self,
        who: usize,
        request: http::Request<kube::client::Body>,
    ) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let content = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
        if parts.method == http::Method::PATCH && content != Some("application/merge-patch+json") {
            return Ok(reply(415, format!("no patch of type {content:?} is known here")));
        }
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let request = cluster::Request::read(parts.method, &parts.uri, body);
        let watch = request.watches().then(|| request.clone());
        match self.carry(who, Call::Kubernetes(request)).await {
            End::Reply(Reply::Kubernetes((200, _))) if watch.is_some() => {
                Ok(Response::new(self.watch(who, watch.as_ref().expect("it is some"))))
            }
            End::Reply(Reply::Kubernetes((code, body))) => Ok(reply(code, body.to_string())),
            End::Cut(Reply::Kubernetes((code, body))) => {
                let text = body.to_string();
                Ok(reply(code, text[..text.len() / 2].to_owned()))
            }
            End::Refused => Err(std::io::Error::other("connection refused")),
            _ => {
                tokio::time::sleep(READ_TIMEOUT).await;
                Err(std::io::Error::other("no answer"))
            }
        }
    }

    /// One exchange, as the plan says.
    pub async fn carry(&self, who: usize, call: Call) -> End {
        self.thaw(who).await;
        let fault = self.meet(who, &call);
        tokio::time::sleep(LATENCY).await;
        let end = match fault {
            None => End::Reply(self.arrive(who, &call)),
            Some(Fault::Refused) => End::Refused,
            Some(Fault::Lost) => End::Silence,
            Some(Fault::ReplyLost) => {
                self.arrive(who, &call);
                End::Silence
            }
            Some(Fault::ReplyCut) => End::Cut(self.arrive(who, &call)),
            Some(Fault::ReplyHuge) => {
                self.arrive(who, &call);
                End::Huge
            }
            Some(Fault::Late) => {
                self.arrive_late(who, call.clone());
                End::Silence
            }
            Some(Fault::Twice) => {
                let reply = self.arrive(who, &call);
                self.arrive(who, &call);
                End::Reply(reply)
            }
            Some(Fault::Answered(code)) => End::Reply(refusal(&call, code)),
            Some(Fault::CrashBefore) => self.crash(who),
            Some(Fault::CrashAfter) => {
                self.arrive(who, &call);
                self.crash(who)
            }
            Some(Fault::CrashLate) => {
                self.arrive_late(who, call.clone());
                self.crash(who)
            }
            Some(Fault::CrashBehind) => {
                self.arrive(who, &call);
                self.outside().behind = Some((who, Instant::now() + LAG));
                self.crash(who)
            }
            Some(Fault::Panics) => {
                self.arrive(who, &call);
                // Not a panic that the hook hears of.
                resume_unwind(Box::new("as planned"))
            }
            Some(Fault::Frozen) => {
                self.freeze(who);
                self.thaw(who).await;
                End::Reply(self.arrive(who, &call))
            }
            Some(Fault::Meanwhile(act)) => {
                (act.act)(&mut self.outside(), self.clock.now());
                End::Reply(self.arrive(who, &call))
            }
        };
        tokio::time::sleep(LATENCY).await;
        self.comes_back(who, &call);
        self.thaw(who).await;
        if self.outside().dead.contains(&who) { End::Silence } else { end }
    }

    /// Counts the call and says what becomes of it.
    fn meet(&self, who: usize, call: &Call) -> Option<Fault> {
        let mut outside = self.outside();
        if outside.dead.contains(&who) {
            return Some(Fault::Lost);
        }
        outside.sent += 1;
        if let Some(talks) = invariants::talks_out_of_turn(&outside, who) {
            outside.violations.push(talks);
            outside.deposed.remove(&who);
        }
        let seen = outside.describe(call);
        if outside.armed.is_none() || seen.name.contains(" events") {
            return None;
        }
        let n = outside.calls.len();
        let taken = outside.plan.take(n, &seen);
        if outside.plan.is_traced {
            let said = match call {
                Call::Kubernetes(request) if request.subresource == "status" => {
                    request.body["status"].to_string()
                }
                _ => String::new(),
            };
            let mark = if taken.is_some() { "  <- here" } else { "" };
            outside.trace.push(format!("{n:3} operator {who}: {}{mark} {said}", seen.name));
        }
        outside.calls.push(Seen { disturbed: taken.is_some(), ..seen.clone() });
        let (fault, words) = taken?;
        outside.met.push(words);
        // What mends it may come as late as if something had just been written.
        outside.last_write = Instant::now();
        // Whoever removes what nobody else knows of has its token in hand, and nowhere else.
        let last_word = seen.to_registry && seen.name.starts_with("DELETE");
        // Where a read brings a new token, the one that others have is worth nothing meanwhile.
        let outdated = outside.rotates_on_read && matches!(fault, Fault::Frozen);
        outside.lost += usize::from(fault.loses() || last_word || outdated);
        outside.doubled += usize::from(matches!(fault, Fault::Twice));
        Some(fault)
    }

    /// The request has its effect.
    fn arrive(&self, who: usize, call: &Call) -> Reply {
        let now = self.clock.now();
        let mut outside = self.outside();
        match call {
            Call::Kubernetes(request) => {
                let holder = outside.cluster.holder();
                let answer = match outside.shown(who, request) {
                    Some(version) => outside.cluster.list_as_of(version, request),
                    None => outside.cluster.answer(request, now),
                };
                outside.passes_on(holder);
                if request.counts() && answer.0 < 300 {
                    outside.wrote();
                    outside.checked += 1;
                    if self.strict {
                        let wrong = invariants::ready_means_ready(&outside, request);
                        outside.violations.extend(wrong);
                    }
                }
                Reply::Kubernetes(answer)
            }
            Call::Registry(request) => {
                let writes = outside.describe(call).writes;
                let reply = outside.registry.exchange(request);
                if writes {
                    outside.wrote();
                }
                Reply::Registry(reply)
            }
        }
    }

    fn arrive_late(&self, who: usize, call: Call) {
        let mut outside = self.outside();
        outside.on_the_way += 1;
        let sent = outside.cluster.version();
        drop(outside);
        let network = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            network.arrive(who, &call);
            let mut outside = network.outside();
            outside.on_the_way -= 1;
            let name = outside.describe(&call).name;
            outside.trace.push(format!("    of operator {who}, late: {name}"));
            if network.strict && matches!(call, Call::Registry(_)) {
                let wrong = invariants::still_opens(&outside, sent);
                outside.violations.extend(wrong);
            }
        });
    }

    /// A reply that finds its operator frozen is one that it does not wait for any more.
    fn comes_back(&self, who: usize, call: &Call) {
        let mut outside = self.outside();
        let frozen = outside.frozen.get(&who).is_some_and(|until| *until > Instant::now());
        if frozen && matches!(call, Call::Registry(_)) && outside.describe(call).writes {
            outside.lost += 1;
        }
    }

    fn crash(&self, who: usize) -> End {
        if self.outside().dead.insert(who) {
            // If nobody listens, the run is over.
            let _ = self.happened.send(Happened::OperatorFailed);
        }
        End::Silence
    }

    fn freeze(&self, who: usize) {
        self.outside().frozen.insert(who, Instant::now() + FREEZE);
        let _ = self.happened.send(Happened::OperatorFailed);
    }

    pub async fn thaw(&self, who: usize) {
        let until = self.outside().frozen.get(&who).copied();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Outside {
    /// From now on calls count.
    pub fn arm(&mut self) {
        self.armed = Some(Instant::now());
        self.beginning = self.cluster.version();
    }

    /// Notes who has just lost the Lease, if its holder was another one before.
    fn passes_on(&mut self, before: Option<usize>) {
        let after = self.cluster.holder();
        if let Some(loser) = before.filter(|_| before != after) {
            self.deposed.insert(loser, Instant::now());
        }
    }

    fn wrote(&mut self) {
        self.last_write = Instant::now();
        self.calls_until_rest = self.calls.len();
        self.epoch += 1;
    }

    /// Calls and events since then.
    pub fn seen(&self) -> (&[Seen], usize) {
        (&self.calls, self.events)
    }

    /// Whether all of the plan has come to pass, or can no more.
    pub fn is_quiet(&self, since: Duration) -> bool {
        let frozen = self.frozen.values().any(|until| *until > Instant::now());
        self.last_write.elapsed() >= since && !frozen && self.on_the_way == 0
    }

    /// The version that a list shows to this operator, if it is not the last one.
    fn shown(&mut self, who: usize, request: &cluster::Request) -> Option<u64> {
        let watched = request.method == http::Method::GET
            && request.place.name.is_empty()
            && request.place.resource.contains("oauth");
        let behind = self.behind.is_some_and(|(after, until)| who > after && until > Instant::now());
        // The first one is a watch's. Whoever decides by a list asks for a consistent one.
        let first = watched && behind && self.listed.insert((who, request.place.resource.clone()));
        first.then_some(self.beginning)
    }

    fn describe(&self, call: &Call) -> Seen {
        let at = self.armed.map(|armed| armed.elapsed()).unwrap_or_default();
        let (name, target, writes, to_registry) = match call {
            Call::Kubernetes(request) => {
                (request.name(), format!("{:?}", request.place), request.writes(), false)
            }
            Call::Registry(request) => {
                let name = self.registry.operation(request);
                // Neither signing in nor a token request changes a client.
                let harmless = request.method == http::Method::GET
                    || name.contains("/auth/")
                    || name.ends_with("/token");
                (name, request.path.clone(), !harmless, true)
            }
        };
        let target = if self.symmetric { String::new() } else { target };
        let (findable, epoch, disturbed) = (self.findable, self.epoch, false);
        let seen = Seen { name, target, writes, to_registry, findable, epoch, at, disturbed };
        // One of many is like the other, and so is one renewal of the Lease.
        let alike = self.symmetric || seen.is_of_the_lease();
        Seen { epoch: if alike { 0 } else { epoch }, ..seen }
    }
}

fn reply(code: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

fn refusal(call: &Call, code: u16) -> Reply {
    match call {
        Call::Kubernetes(_) => {
            let reason = match code {
                409 => "Conflict",
                410 => "Expired",
                429 => "TooManyRequests",
                _ => "InternalError",
            };
            Reply::Kubernetes(cluster::failure(code, reason))
        }
        Call::Registry(_) => {
            let reply = providers::Reply::empty(code);
            Reply::Registry(Some(if code == 429 { reply.with("retry-after", 5) } else { reply }))
        }
    }
}
