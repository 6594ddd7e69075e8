//! A loopback proxy between the operator and one of its servers, which lets chosen calls go wrong.

use super::fault::{Action, Fault, FaultPlan, Ticket, When};
use super::ports::{listener, url_of};
use super::{Cluster, http as test_http};
use ::http::{HeaderMap, Method, Request, Response, Uri, header};
use axum::body::{Body, Bytes, to_bytes};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// More than any object in a test.
const LARGEST_BODY: usize = 16 << 20;

/// A reverse proxy (HTTP/1.1 without TLS on its own side) that carries out a `FaultPlan`. Ends when dropped.
pub struct FaultProxy {
    url: String,
    kubeconfig: PathBuf,
    _folder: TempDir,
    gate: Gate,
    acceptor: JoinHandle<()>,
}

/// Whether connections are let in. Its clones are one and the same gate.
#[derive(Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
}

impl Gate {
    /// Breaks all connections, and every new one at once.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections in again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many connections found it closed.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// Whether a call counts, by method and path.
pub type Predicate = fn(&Method, &Uri) -> bool;

/// Where the calls go on to.
#[derive(Clone)]
enum Upstream {
    ApiServer(kube::Client),
    Registry { url: String, client: reqwest::Client },
}

/// What one call needs, shared by all.
struct Route {
    name: &'static str,
    upstream: Upstream,
    plan: FaultPlan,
    counts: Predicate,
}

impl FaultProxy {
    /// In front of the API server, with every right; counts what `counts_at_api_server` says.
    pub async fn to_api_server(cluster: &Cluster, plan: &FaultPlan) -> Self {
        let upstream = Upstream::ApiServer(cluster.client_without_retries().await);
        Self::start("api", upstream, plan, counts_at_api_server).await
    }

    /// In front of a registry at `url`; counts every call, the tests' own through it (`grant`, `Peer::register`) too.
    /// The registry has to give out this proxy's URL as its own (`DevelopmentRegistry::start_behind` and
    /// `OidcProvider::start_behind` see to that).
    pub async fn to_registry(url: &str, plan: &FaultPlan) -> Self {
        let upstream = Upstream::Registry { url: url.to_owned(), client: test_http::client() };
        Self::start("registry", upstream, plan, |_, _| true).await
    }

    /// Without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig whose server is this proxy (`OperatorOptions::kubeconfig`).
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// What lets its callers in.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    async fn start(name: &'static str, upstream: Upstream, plan: &FaultPlan, counts: Predicate) -> Self {
        let listener = listener().await;
        let url = url_of(&listener);
        let folder = tempfile::tempdir().expect("a folder for the kubeconfig");
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_for(&url)).expect("a kubeconfig");
        let route = Arc::new(Route { name, upstream, plan: plan.clone(), counts });
        let gate = Gate { open: watch::Sender::new(true), refused: Arc::default() };
        let acceptor = tokio::spawn(accept(listener, route, gate.clone()));
        Self { url, kubeconfig, _folder: folder, gate, acceptor }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// What a pass of the operator does to single objects, and where it can be interrupted: neither watches and lists, nor
/// leases, events and namespaces, nor discovery.
pub fn counts_at_api_server(method: &Method, uri: &Uri) -> bool {
    let segments: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let (["api", _, ref resource @ ..] | ["apis", _, _, ref resource @ ..]) = segments[..] else {
        return false;
    };
    let (resource, named) = match *resource {
        // `namespaces/NAME` alone is the namespace itself.
        ["namespaces"] | ["namespaces", _] | [] => return false,
        ["namespaces", _, resource, ref rest @ ..] | [resource, ref rest @ ..] => {
            (resource, !rest.is_empty())
        }
    };
    let is_list_or_watch = method == Method::GET && (!named || watches(uri));
    !is_list_or_watch && !["leases", "events"].contains(&resource)
}

fn watches(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

fn kubeconfig_for(server: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: proxy\n\
         contexts: [{{ name: proxy, context: {{ cluster: proxy, user: proxy }} }}]\n\
         clusters: [{{ name: proxy, cluster: {{ server: \"{server}\" }} }}]\n\
         users: [{{ name: proxy, user: {{}} }}]\n"
    )
}

/// Each connection is a task of its own, and ends with its caller, the gate or the proxy.
async fn accept(listener: TcpListener, route: Arc<Route>, gate: Gate) {
    let (mut connections, mut changes) = (JoinSet::new(), gate.open.subscribe());
    loop {
        tokio::select! {
            // Closed or opened again: what was connected before is not any more.
            Ok(()) = changes.changed() => connections.shutdown().await,
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => if *changes.borrow() {
                connections.spawn(serve(stream, Arc::clone(&route)));
            } else {
                gate.refused.fetch_add(1, Ordering::SeqCst);
            },
        }
    }
}

async fn serve(stream: TcpStream, route: Arc<Route>) {
    let answer = service_fn(move |request| {
        let route = Arc::clone(&route);
        async move { route.handle(request).await }
    });
    // An error here is a closed connection: the caller's, the server's, or as planned.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

impl Route {
    async fn handle(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, read(Body::new(body)).await?);

        let counts = (self.counts)(request.method(), request.uri());
        let (ticket, fault) =
            self.plan.begin(self.name, request.method().as_str(), request.uri().path(), counts);
        if let Some(Fault { when: When::BeforeForward, action, .. }) = &fault
            && let Some(answer) = self.strike(ticket, action).await?
        {
            return Ok(answer);
        }
        let response = self.upstream.forward(request).await?;
        self.plan.answered(ticket, response.status().as_u16());
        let Some(Fault { when: When::AfterAnswer, action, .. }) = &fault else { return Ok(response) };
        // Not before the effect is whole.
        let (parts, body) = response.into_parts();
        let body = read(body).await?;
        let answer = self.strike(ticket, action).await?;
        Ok(answer.unwrap_or_else(|| Response::from_parts(parts, body.into())))
    }

    /// What is answered instead; `None` if all goes on.
    async fn strike(&self, ticket: Ticket, action: &Action) -> io::Result<Option<Response<Body>>> {
        self.plan.strike(ticket);
        let answer = Response::builder();
        let (answer, body) = match action {
            Action::Kill(kill) => {
                kill();
                std::future::pending().await
            }
            Action::Tell(tell) => {
                tell();
                return Ok(None);
            }
            Action::Drop => return Err(io::ErrorKind::ConnectionAborted.into()),
            Action::Answer(status, body) => {
                (answer.status(*status).header(header::CONTENT_TYPE, "application/json"), body.clone())
            }
            Action::TooManyRequests(after) => {
                let answer =
                    after.iter().fold(answer, |answer, after| answer.header(header::RETRY_AFTER, *after));
                (answer.status(429), "Too many requests, please try again later.\n".to_owned())
            }
        };
        answer.body(Body::from(body)).map(Some).map_err(io::Error::other)
    }
}

impl Upstream {
    /// The answer's body is handed on as it comes in, so that a watch stays a watch.
    async fn forward(&self, mut request: Request<Bytes>) -> io::Result<Response<Body>> {
        remove_hop_headers(request.headers_mut());
        let mut response = match self {
            Self::ApiServer(client) => ask_api_server(client, request).await.map_err(io::Error::other)?,
            Self::Registry { url, client } => {
                // The caller's Host stays: a registry may build its own URLs from it.
                let target = format!("{url}{}", request.uri());
                *request.uri_mut() = target.parse().map_err(io::Error::other)?;
                ask_registry(client, request).await.map_err(io::Error::other)?
            }
        };
        remove_hop_headers(response.headers_mut());
        Ok(response)
    }
}

async fn ask_api_server(client: &kube::Client, mut request: Request<Bytes>) -> kube::Result<Response<Body>> {
    request.headers_mut().remove(header::HOST);
    let response = client.send(request.map(kube::client::Body::from)).await?;
    Ok(response.map(Body::new))
}

async fn ask_registry(client: &reqwest::Client, request: Request<Bytes>) -> reqwest::Result<Response<Body>> {
    let response = client.execute(request.try_into()?).await?;
    Ok(Response::from(response).map(Body::new))
}

async fn read(body: Body) -> io::Result<Bytes> {
    to_bytes(body, LARGEST_BODY).await.map_err(io::Error::other)
}

/// They speak of one connection only, and there are two.
fn remove_hop_headers(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

#[cfg(test)]
mod tests {
    use super::super::{HostileRegistry, PATIENCE, World, eventually};
    use super::*;
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::Secret;
    use kube::api::{Api, PostParams, WatchEvent, WatchParams};
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use std::sync::atomic::AtomicBool;

    #[test]
    fn counts_what_is_done_to_single_objects() {
        let cases = [
            (true, "GET", "/apis/oauth-operator.io/v1alpha1/namespaces/a/oauthclients/b"),
            (true, "PATCH", "/apis/oauth-operator.io/v1alpha1/namespaces/a/oauthclients/b/status"),
            (true, "PATCH", "/apis/oauth-operator.io/v1alpha1/clusteroauthregistries/b"),
            (true, "POST", "/api/v1/namespaces/a/secrets?fieldManager=x"),
            (false, "GET", "/api/v1/namespaces/a/secrets?limit=500"),
            (false, "GET", "/api/v1/namespaces/a/secrets/b?watch=true"),
            (false, "GET", "/apis/oauth-operator.io/v1alpha1/oauthclients?watch=1&resourceVersion=7"),
            (false, "GET", "/api/v1/namespaces/a"),
            (false, "POST", "/api/v1/namespaces/a/events"),
            (false, "PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"),
            (false, "GET", "/apis"),
            (false, "GET", "/version"),
        ];
        for (expected, method, uri) in cases {
            let counts = counts_at_api_server(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(counts, expected, "{method} {uri}");
        }
    }

    /// A client as the operator would have it.
    async fn client_through(proxy: &FaultProxy) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    fn secret(name: &str) -> Secret {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": name } })).unwrap()
    }

    async fn world_behind_proxy(plan: &FaultPlan) -> (World, FaultProxy, Api<Secret>) {
        let world = Cluster::connect().await.world("support-proxy").await;
        let proxy = FaultProxy::to_api_server(&world.cluster, plan).await;
        let secrets = Api::namespaced(client_through(&proxy).await, &world.namespace);
        (world, proxy, secrets)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_watch_streams_through() {
        let plan = FaultPlan::new();
        let (world, _proxy, secrets) = world_behind_proxy(&plan).await;
        let watch = secrets.watch(&WatchParams::default(), "0").await.unwrap();
        world.put_secret("one", &[]).await;
        let added = watch.filter_map(async |event| match event {
            Ok(WatchEvent::Added(secret)) => secret.metadata.name,
            _ => None,
        });
        let name = tokio::time::timeout(PATIENCE, Box::pin(added).next()).await;
        assert_eq!(name.expect("an event in time").as_deref(), Some("one"));
        assert_eq!(plan.counted(), 0, "{}", plan.describe());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_is_lost_before_or_after_its_effect() {
        let plan = FaultPlan::new();
        let (world, _proxy, secrets) = world_behind_proxy(&plan).await;
        let create = async |name: &str| secrets.create(&PostParams::default(), &secret(name)).await;

        plan.at(1, When::BeforeForward, Action::Drop);
        plan.at(2, When::AfterAnswer, Action::Drop);
        plan.at(3, When::BeforeForward, Action::Answer(418, "{}".to_owned()));
        create("lost").await.unwrap_err();
        create("done").await.unwrap_err();
        create("refused").await.unwrap_err();
        create("created").await.unwrap();
        assert_eq!((plan.counted(), plan.fired()), (4, 3), "{}", plan.describe());
        let statuses: Vec<_> = plan.calls().iter().map(|call| call.status).collect();
        assert_eq!(statuses, [None, Some(201), None, Some(201)]);
        for (name, there) in [("lost", false), ("done", true), ("refused", false), ("created", true)] {
            assert_eq!(world.secret(name).await.is_some(), there, "{name}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_caller_gets_no_answer() {
        let plan = FaultPlan::new();
        let (world, _proxy, secrets) = world_behind_proxy(&plan).await;
        let killed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&killed);
        plan.at(1, When::AfterAnswer, Action::kill(move || flag.store(true, Ordering::SeqCst)));

        let call = tokio::spawn(async move { secrets.create(&PostParams::default(), &secret("one")).await });
        eventually("the kill", PATIENCE, async || {
            if killed.load(Ordering::SeqCst) { Ok(()) } else { Err(plan.describe()) }
        })
        .await;
        assert!(!call.is_finished());
        assert!(world.secret("one").await.is_some());
        call.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_api_servers_refusals_come_through() {
        let (_world, _proxy, secrets) = world_behind_proxy(&FaultPlan::new()).await;
        secrets.create(&PostParams::default(), &secret("one")).await.unwrap();
        let refusal = secrets.create(&PostParams::default(), &secret("one")).await.unwrap_err();
        assert!(matches!(refusal, kube::Error::Api(status) if status.is_already_exists()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_registry_and_an_api_server_share_one_count() {
        let plan = FaultPlan::new();
        let (_world, _proxy, secrets) = world_behind_proxy(&plan).await;
        let registry = HostileRegistry::start().await;
        let proxy = FaultProxy::to_registry(registry.url(), &plan).await;
        plan.at(2, When::BeforeForward, Action::Answer(503, String::new()));

        secrets.get_opt("nobody").await.unwrap();
        let register = || test_http::client().post(format!("{}/register", proxy.url())).body("{}").send();
        assert_eq!(register().await.unwrap().status(), 503);
        assert_eq!(register().await.unwrap().status(), 201);
        assert_eq!(registry.count("POST", "/register"), 1);
        assert_eq!(plan.counted(), 3, "{}", plan.describe());
    }
}
