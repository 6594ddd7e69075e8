//! What GitOps tools conclude from an object: Flux and Helm 4 by the library that they use, Argo CD by the script of `examples/`.

use super::cluster::{from_root, run};
use super::world::{Kind, World, parse_yaml, to_json};
use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib, serde::SerializeOptions};
use serde::Deserialize;
use serde_json::Value;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// What Argo CD is taught, and its users paste.
const HEALTH_CHECKS: &str = "examples/argo-cd/health-checks.yaml";

/// What a tool says of an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// In the tool's own words: `Current`, `Healthy` …
    pub status: String,
    /// What people read.
    #[serde(default)]
    pub message: String,
}

/// Everything that the API server shows of a kind in a world, from now on: what a tool sees that watches.
pub struct Recorder {
    seen: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

/// The verdicts of kstatus, one an object.
pub async fn kstatus(objects: &[Value]) -> Vec<Verdict> {
    let lines: Vec<_> = objects.iter().map(Value::to_string).collect();
    let outcome = run(&mut Command::new(from_root("target/tools/kstatus")), &lines.join("\n")).await;
    assert!(outcome.status.success(), "{}", outcome.stderr);
    outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("a verdict")).collect()
}

/// The verdicts of Argo CD, one an object, by the script that is in the examples.
pub fn argo_cd(objects: &[Value]) -> Vec<Verdict> {
    let manifest = std::fs::read_to_string(from_root(HEALTH_CHECKS)).expect("the example");
    let customizations = parse_yaml(&manifest)["data"]["resource.customizations"].clone();
    let script =
        parse_yaml(customizations.as_str().expect("a text"))["oauth-operator.io/*"]["health.lua"].clone();
    let script = script.as_str().expect("a script");
    objects.iter().map(|object| judge(script, object).expect("the script does not fail")).collect()
}

/// With no more libraries than Argo CD gives to a script.
fn judge(script: &str, object: &Value) -> mlua::Result<Verdict> {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default())?;
    // Go has no other null than Lua's.
    let nil = SerializeOptions::new().serialize_unit_to_null(false);
    lua.globals().set("obj", lua.to_value_with(object, nil)?)?;
    lua.from_value(lua.load(script).eval()?)
}

impl Recorder {
    /// Begins now; returns when nothing that follows is missed.
    pub async fn start(world: &World, kind: Kind) -> Self {
        let api = world.api(kind);
        let now = api.list(&ListParams::default()).await.expect("the API server answers");
        let version = now.metadata.resource_version.expect("a list has a version");
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let events = api.watch(&WatchParams::default(), &version).await.expect("a watch");
            let mut events = pin!(events);
            while let Some(event) = events.try_next().await.expect("the API server goes on") {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                    into.lock().unwrap().push(to_json(object));
                }
            }
        });
        Self { seen, task }
    }

    /// What was seen so far, in order.
    pub fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
