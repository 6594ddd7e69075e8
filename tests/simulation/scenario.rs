//! The stories: what is there, what happens then, and where that makes sense.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    NAMESPACE,
    acts::{
        accept, apply, client, edit, forge, forge_record, guard, is_named, ours_are, point, put_credentials,
        records, registry, registry_says, restore, rotate, save, says, tamper,
    },
    cluster::at,
    network::Outside,
    plan::Act,
    registries::Class,
};

/// A story: what is there, and what happens then.
pub struct Scenario {
    pub name: &'static str,
    /// How many clients are ready before it begins; none if the first one is new.
    pub ready: usize,
    /// What happens.
    pub act: Act,
    /// What must be true when everything has come to rest again, and what happens then.
    pub then: Option<Then>,
    /// Who works from the beginning.
    pub operators: Operators,
    /// Where it makes sense.
    pub fits: fn(&Class) -> bool,
    /// Whether somebody changes clients at the registry, so that what Ready says may be old.
    pub tampers: bool,
    /// Whether people are asked again for its second half if the operator dies meanwhile.
    pub again: bool,
    /// How long nothing may be written until it counts as rest.
    pub quiet: Duration,
    /// Clients that are to stay although their objects go.
    pub kept: usize,
    /// Whether it cuts a client off from its object, against our finalizer.
    pub cuts_off: bool,
    /// Members of the client's spec.
    pub spec: fn() -> Value,
}

/// The operators of a story. Others come when one fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operators {
    One,
    /// Both work.
    Two,
    /// Of two, the one works that holds the Lease.
    Replicas,
}

impl Operators {
    pub fn count(self) -> usize {
        if self == Self::One { 1 } else { 2 }
    }
}

/// Longer than a drift interval, a sweep's, an overlap and a deletion: who writes nothing in that time is at rest.
const QUIET: Duration = Duration::from_mins(7);

/// The second half of a story.
pub struct Then {
    /// What is wrong before it, if anything.
    pub wrong: fn(&Outside) -> Option<String>,
    pub act: Act,
}

const ALWAYS: fn(&Class) -> bool = |_| true;
const PLAIN: fn() -> Value = || json!({});

const fn scenario(name: &'static str, act: fn(&mut Outside, Timestamp)) -> Scenario {
    Scenario {
        name,
        ready: 1,
        act: Act { name, act },
        then: None,
        operators: Operators::One,
        fits: ALWAYS,
        tampers: false,
        again: false,
        quiet: QUIET,
        kept: 0,
        cuts_off: false,
        spec: PLAIN,
    }
}

/// All of them.
pub static SCENARIOS: &[Scenario] = &[
    Scenario { ready: 0, ..scenario("create", |outside, now| apply(outside, 0, now)) },
    scenario("update", |outside, now| edit(outside, json!({"spec": {"clientName": "Renamed"}}), now)),
    Scenario { fits: |class| class.rotates, ..scenario("rotate", rotate) },
    scenario("delete", |outside, now| outside.cluster.remove(&client(0), now)),
    Scenario {
        ready: 0,
        ..scenario("apply and delete at once", |outside, now| {
            apply(outside, 0, now);
            outside.cluster.remove(&client(0), now);
        })
    },
    Scenario {
        cuts_off: true,
        ..scenario("taken away and made again", |outside, now| {
            outside.cluster.take_away(&client(0));
            apply(outside, 0, now);
        })
    },
    Scenario { cuts_off: true, ..scenario("taken away", |outside, _| outside.cluster.take_away(&client(0))) },
    scenario("Secret deleted", |outside, now| {
        outside.cluster.remove(&at("secrets", NAMESPACE, "app-0"), now);
    }),
    scenario("Secret edited", |outside, now| {
        let garbage = json!({"data": {"client_secret": "Z2FyYmFnZQ=="}});
        outside.cluster.apply(&at("secrets", NAMESPACE, "app-0"), garbage, now);
    }),
    Scenario {
        tampers: true,
        ..scenario("client removed by others", |outside, _| tamper(outside, |registry, id| registry.take(id)))
    },
    Scenario {
        tampers: true,
        fits: |class| class.updates && !class.rotates_on_read,
        ..scenario("client edited by others", |outside, _| {
            tamper(outside, |registry, id| registry.rename(id, "Somebody else's"));
        })
    },
    scenario("namespace ends", |outside, now| outside.cluster.end_namespace(NAMESPACE, now)),
    Scenario {
        then: Some(Then {
            wrong: |outside| says(outside, "RegistryChanged").or_else(|| ours_are(outside, 1)),
            act: Act { name: "switched back", act: |outside, now| point(outside, "https://as.example", now) },
        }),
        ..scenario("registry switched", |outside, now| point(outside, "https://other.example", now))
    },
    Scenario {
        fits: |class| class.findable,
        then: Some(Then {
            wrong: |outside| registry_says(outside, "RegistryChanged").or_else(|| ours_are(outside, 1)),
            act: Act {
                name: "the right key again",
                act: |outside, now| {
                    let credentials = outside.credentials.clone();
                    put_credentials(outside, &credentials, now);
                },
            },
        }),
        ..scenario("key of another account", |outside, now| {
            let other = outside.registry.other_account();
            put_credentials(outside, &other, now);
        })
    },
    Scenario {
        ready: 5,
        tampers: true,
        fits: |class| class.findable,
        then: Some(Then {
            wrong: |outside| says(outside, "MassAbsence").or_else(|| ours_are(outside, 0)),
            act: Act { name: "accepted", act: accept },
        }),
        again: true,
        ..scenario("registry wiped", |outside, _| tamper(outside, |registry, id| registry.take(id)))
    },
    Scenario {
        tampers: true,
        // Where lists show no secrets, each client is read whole at every sixth, and an operator that died counts anew.
        quiet: Duration::from_mins(70),
        fits: |class| class.spoils,
        ..scenario("secret ended by others", |outside, _| {
            tamper(outside, |registry, id| registry.spoil(id));
        })
    },
    Scenario { fits: |class| class.findable, ..scenario("forged intent", forge) },
    Scenario {
        ready: 0,
        // At Meteroid the id that manages a client has another form than the one that an intent names.
        fits: |class| class.findable && class.updates,
        ..scenario("forged intent of a new client", |outside, now| {
            apply(outside, 0, now);
            forge(outside, now);
        })
    },
    Scenario { fits: |class| class.forgets, ..scenario("forged record", forge_record) },
    Scenario {
        kept: 1,
        ..scenario("retained", |outside, now| {
            edit(outside, json!({"spec": {"deletionPolicy": "Retain"}}), now);
            outside.cluster.remove(&client(0), now);
        })
    },
    Scenario {
        fits: |class| class.rotates,
        spec: || json!({"rotation": {"overlap": "2h"}}),
        then: Some(Then {
            wrong: |_| None,
            act: Act {
                name: "deleted in the overlap",
                act: |outside, now| outside.cluster.remove(&client(0), now),
            },
        }),
        ..scenario("rotated, and deleted in the overlap", rotate)
    },
    Scenario {
        cuts_off: true,
        ..scenario("finalizer cut off", |outside, now| {
            edit(outside, json!({"metadata": {"finalizers": []}}), now);
        })
    },
    Scenario {
        then: Some(Then {
            wrong: |outside| is_named(outside, "App 0"),
            act: Act {
                name: "resumed",
                act: |outside, now| edit(outside, json!({"spec": {"suspend": false}}), now),
            },
        }),
        ..scenario("suspended and edited", |outside, now| {
            edit(outside, json!({"spec": {"suspend": true, "clientName": "Renamed"}}), now);
        })
    },
    Scenario {
        ready: 0,
        then: Some(Then {
            wrong: |outside| says(outside, "SecretNotOurs").or_else(|| ours_are(outside, 0)),
            act: Act {
                name: "it is removed",
                act: |outside, now| outside.cluster.remove(&at("secrets", NAMESPACE, "app-0"), now),
            },
        }),
        ..scenario("Secret of somebody else", |outside, now| {
            outside.cluster.apply(&at("secrets", NAMESPACE, "app-0"), json!({"data": {"theirs": ""}}), now);
            apply(outside, 0, now);
        })
    },
    Scenario {
        fits: |class| class.name != "cal-com",
        then: Some(Then {
            wrong: |outside| says(outside, "RecordUnreadable").or_else(|| ours_are(outside, 1)),
            act: Act { name: "it is restored", act: restore },
        }),
        ..scenario("record broken", |outside, now| {
            for place in records(outside) {
                save(outside, &place);
                outside.cluster.apply(&place, json!({"data": {"state": "Z2FyYmFnZQ=="}}), now);
            }
        })
    },
    Scenario {
        then: Some(Then {
            wrong: |outside| says(outside, "RegistryNotFound").or_else(|| ours_are(outside, 1)),
            act: Act { name: "it is there again", act: restore },
        }),
        ..scenario("registry object removed", |outside, _| {
            save(outside, &registry());
            outside.cluster.take_away(&registry());
        })
    },
    scenario("deleted with its registry object", |outside, now| {
        outside.cluster.remove(&registry(), now);
        outside.cluster.remove(&client(0), now);
    }),
    Scenario {
        fits: |class| !class.findable,
        then: Some(Then {
            wrong: |outside| says(outside, "Unsupported"),
            act: Act {
                name: "taken back",
                act: |outside, now| edit(outside, json!({"spec": {"requirePkce": null}}), now),
            },
        }),
        ..scenario("field that the registry has not", |outside, now| {
            edit(outside, json!({"spec": {"requirePkce": true}}), now);
        })
    },
    Scenario {
        then: Some(Then {
            wrong: |outside| says(outside, "NotAllowed").or_else(|| ours_are(outside, 1)),
            act: Act { name: "taken away", act: |outside, now| guard(outside, &json!(null), now) },
        }),
        ..scenario("guardrail without the client", |outside, now| {
            guard(outside, &json!({"allowedRedirectHosts": ["other.example"]}), now);
        })
    },
    Scenario {
        fits: |class| class.forgets,
        then: Some(Then {
            wrong: |outside| says(outside, "Unsupported"),
            act: Act {
                name: "named otherwise",
                act: |outside, now| edit(outside, json!({"spec": {"clientName": "Renamed"}}), now),
            },
        }),
        ..scenario("name like a mark", |outside, now| {
            edit(outside, json!({"spec": {"clientName": "oauth-operator/installation/uid/nonce"}}), now);
        })
    },
    Scenario {
        ready: 0,
        operators: Operators::Two,
        ..scenario("two operators: create", |outside, now| apply(outside, 0, now))
    },
    Scenario {
        operators: Operators::Two,
        ..scenario("two operators: delete", |outside, now| outside.cluster.remove(&client(0), now))
    },
    Scenario {
        operators: Operators::Two,
        tampers: true,
        ..scenario("two operators: client removed by others", |outside, _| {
            tamper(outside, |registry, id| registry.take(id));
        })
    },
    Scenario {
        operators: Operators::Two,
        fits: |class| class.rotates,
        ..scenario("two operators: rotate", rotate)
    },
    // What becomes of the Lease does not depend on the registry: some classes are enough.
    Scenario {
        ready: 0,
        operators: Operators::Replicas,
        fits: |class| class.rotates_on_read,
        ..scenario("two replicas: create", |outside, now| apply(outside, 0, now))
    },
    Scenario {
        operators: Operators::Replicas,
        fits: |class| class.rotates && !class.updates,
        ..scenario("two replicas: rotate", rotate)
    },
];
