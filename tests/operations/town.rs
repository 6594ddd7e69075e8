//! Every registry there is, in one world, and what each has of a client, in the words of the spec.

use serde_json::{Map, Value, json};

use crate::{
    stand_ins::{self, StandIn},
    support::{
        DevelopmentRegistry, Peer, World,
        peer::INITIAL_ACCESS_TOKEN,
        providers::{
            cal_com::{self, CalCom},
            meteroid::{self, Meteroid},
            place::Place,
            teable::{self, Switch, Teable},
            telnyx::{self, Telnyx},
        },
        site::extend,
        world::parse_yaml,
    },
};

/// More than anybody asks for.
const NO_LIMIT: u32 = 1_000_000;

/// The registries.
pub struct Town {
    pub world: World,
    pub development: DevelopmentRegistry,
    pub cal_com: StandIn<CalCom>,
    pub meteroid: StandIn<Meteroid>,
    pub teable: StandIn<Teable>,
    pub telnyx: StandIn<Telnyx>,
}

impl Town {
    pub async fn open(world: &World) -> Self {
        let town = Self {
            world: world.clone(),
            development: DevelopmentRegistry::start().await,
            cal_com: StandIn::start().await,
            meteroid: StandIn::start().await,
            teable: StandIn::start().await,
            telnyx: StandIn::start().await,
        };
        town.cal_com.fake.at(|provider| provider.set_limit(NO_LIMIT));
        town.telnyx.fake.at(|provider| provider.set_limit(NO_LIMIT));
        town.teable.fake.at(|provider| provider.switches.extend([Switch::DeviceFlow, Switch::AccessTokens]));
        town
    }

    /// Where a registry is.
    pub fn url(&self, at: &str) -> &str {
        match at {
            CalCom::SLUG => self.cal_com.served.url(),
            Meteroid::SLUG => self.meteroid.served.url(),
            Teable::SLUG => self.teable.served.url(),
            Telnyx::SLUG => self.telnyx.served.url(),
            _ => self.development.url(),
        }
    }

    /// What the spec of a registry object says at least.
    pub fn registry(&self, at: &str, secret: &str) -> Value {
        let url = self.url(at);
        // Clients of many objects share a registry here, so no limit of theirs is kept.
        let mut spec = json!({
            "insecureHttp": true,
            "driftInterval": "10s",
            "rateLimit": {"requestsPerSecond": 1000, "burst": 1000},
        });
        let connection = match at {
            CalCom::SLUG => CalCom::registry(url, secret),
            Meteroid::SLUG => Meteroid::registry(url, secret),
            Teable::SLUG => Teable::registry(url, secret),
            Telnyx::SLUG => Telnyx::registry(url, secret),
            _ => {
                json!({"dynamicRegistration": {"issuer": url, "initialAccessTokenSecretRef": {"name": secret}}})
            }
        };
        extend(&mut spec, &connection);
        spec
    }

    /// What the Secret with a registry's credentials holds.
    pub fn credentials(at: &str) -> Value {
        match at {
            CalCom::SLUG => CalCom::credentials(),
            Meteroid::SLUG => Meteroid::credentials(),
            Teable::SLUG => Teable::credentials(),
            Telnyx::SLUG => Telnyx::credentials(),
            _ => json!({"token": INITIAL_ACCESS_TOKEN}),
        }
    }

    /// Writes the credentials of all registries, in both namespaces and twice in each, under two keys.
    pub async fn put_credentials_twice(&self) {
        for (at, end) in super::EVERYWHERE.into_iter().flat_map(|at| [(at, ""), (at, "-next")]) {
            let credentials = Self::credentials(at);
            let members =
                credentials.as_object().unwrap().iter().map(|(key, text)| (key, text.as_str().unwrap()));
            let keys: Vec<(String, &str)> = members
                .flat_map(|(key, text)| [(key.clone(), text), (format!("next-{key}"), text)])
                .collect();
            let pairs: Vec<(&str, &str)> = keys.iter().map(|(key, text)| (key.as_str(), *text)).collect();
            self.world.put_secret(&format!("{at}{end}"), &pairs).await;
            self.world.put_operator_secret(&format!("{at}{end}"), &pairs).await;
        }
    }

    /// A certificate of some authority.
    pub fn certificate(&self) -> String {
        let kubeconfig = std::fs::read_to_string(self.world.cluster.kubeconfig()).expect("a kubeconfig");
        let kubeconfig = parse_yaml(&kubeconfig);
        let cluster = kubeconfig["clusters"][0]["cluster"].clone();
        let bytes: k8s_openapi::ByteString =
            serde_json::from_value(cluster["certificate-authority-data"].clone()).expect("a certificate");
        String::from_utf8(bytes.0).expect("PEM")
    }

    /// What the spec of a client says at least.
    pub fn client(at: &str) -> Value {
        let needed = match at {
            CalCom::SLUG => stand_ins::client::<CalCom>(""),
            Meteroid::SLUG => stand_ins::client::<Meteroid>(""),
            Teable::SLUG => stand_ins::client::<Teable>(""),
            Telnyx::SLUG => stand_ins::client::<Telnyx>(""),
            _ => json!({"spec": {
                "registryRef": {"name": at},
                "clientName": "Booking portal",
                "grantTypes": ["authorization_code", "refresh_token"],
                "redirectUris": ["https://portal.example/callback"],
                "scopes": ["bookings.read"],
            }}),
        };
        needed["spec"].clone()
    }

    /// What a registry has of a client, in the words of the spec; `null` if it has none.
    pub async fn shown(&self, at: &str, id: &str) -> Value {
        match at {
            CalCom::SLUG => cal_com_shows(&self.cal_com, id),
            Meteroid::SLUG => meteroid_shows(&self.meteroid, id),
            Teable::SLUG => teable_shows(&self.teable, id),
            Telnyx::SLUG => telnyx_shows(&self.telnyx, id),
            _ => {
                let clients = self.development.clients().await;
                clients
                    .iter()
                    .find(|client| client["client_id"] == id)
                    .map_or(Value::Null, in_words_of_the_spec)
            }
        }
    }

    /// The ids of all clients of a registry.
    pub async fn ids(&self, at: &str) -> Vec<String> {
        let id = |client: Value| client["client_id"].as_str().unwrap().to_owned();
        match at {
            CalCom::SLUG => self.cal_com.fake.at(|provider| provider.all().into_keys().collect()),
            Meteroid::SLUG => self.meteroid.fake.at(|provider| provider.all().into_keys().collect()),
            Teable::SLUG => self.teable.fake.at(|provider| provider.all().into_keys().collect()),
            Telnyx::SLUG => self.telnyx.fake.at(|provider| provider.all().into_keys().collect()),
            _ => self.development.clients().await.into_iter().map(id).collect(),
        }
    }

    /// Fails if an exchange with a provider was not as its contract says.
    pub fn assert_contracts_held(&self) {
        self.cal_com.fake.assert_contract_held();
        self.meteroid.fake.assert_contract_held();
        self.teable.fake.assert_contract_held();
        self.telnyx.fake.assert_contract_held();
    }
}

/// All that RFC 7591 knows, but for what belongs to one registration.
fn in_words_of_the_spec(client: &Value) -> Value {
    let of_one = [
        "client_id",
        "client_id_issued_at",
        "client_secret_expires_at",
        "registration_client_uri",
        "software_id",
    ];
    let members = client.as_object().unwrap().iter().filter(|(member, _)| !of_one.contains(&member.as_str()));
    let word = |(member, value): (&String, &Value)| match member.as_str() {
        "scope" => ("scopes".to_owned(), value.as_str().unwrap_or_default().split_whitespace().collect()),
        _ => (camel(member), value.clone()),
    };
    Value::Object(members.map(word).collect::<Map<_, _>>())
}

fn camel(member: &str) -> String {
    let mut words = member.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

fn client_of<P: Place>(provider: &StandIn<P>, id: &str) -> Option<P::Client> {
    provider.fake.at(|provider| provider.all().remove(id))
}

fn cal_com_shows(provider: &StandIn<CalCom>, id: &str) -> Value {
    let shown = |client: cal_com::Client| {
        json!({
            "clientName": client.name,
            "redirectUris": client.redirect_uris,
            "scopes": cal_com::permitted(client.permissions),
            "logoUri": client.logo,
            "calCom": {
                "bookingRedirectUri": client.booking_redirect_uri,
                "bookingCancelRedirectUri": client.booking_cancel_redirect_uri,
                "bookingRescheduleRedirectUri": client.booking_reschedule_redirect_uri,
                "areEmailsEnabled": client.are_emails_enabled,
                "areDefaultEventTypesEnabled": client.are_default_event_types_enabled,
                "areCalendarEventsEnabled": client.are_calendar_events_enabled,
            },
        })
    };
    client_of(provider, id).map_or(Value::Null, shown)
}

fn meteroid_shows(provider: &StandIn<Meteroid>, id: &str) -> Value {
    let shown = |app: meteroid::App| {
        let name = Meteroid::name(&app);
        json!({"clientName": name, "redirectUris": app.redirect_uris, "scopes": app.scopes, "isActive": app.is_active})
    };
    client_of(provider, id).map_or(Value::Null, shown)
}

fn teable_shows(provider: &StandIn<Teable>, id: &str) -> Value {
    let shown = |client: teable::Client| {
        let lines: Vec<&str> = client.description.iter().flat_map(|text| text.lines()).collect();
        let (mark, description) = lines.split_last().expect("the owner mark is the last line");
        assert!(mark.starts_with("oauth-operator/"), "{mark}");
        json!({
            "clientName": client.name,
            "clientUri": client.homepage,
            "redirectUris": client.redirect_uris,
            "scopes": client.scopes,
            "logoUri": client.logo,
            "secrets": client.secrets.len(),
            "teable": {
                "allowDeviceFlow": client.allow_device_flow,
                "defaultRedirectUri": client.redirect_uris[0],
                "description": description.join("\n"),
            },
        })
    };
    client_of(provider, id).map_or(Value::Null, shown)
}

fn telnyx_shows(provider: &StandIn<Telnyx>, id: &str) -> Value {
    let shown = |client: telnyx::Client| {
        json!({
            "clientName": client.name,
            "clientType": client.client_type,
            "grantTypes": client.allowed_grant_types,
            "redirectUris": client.redirect_uris,
            "requirePkce": client.require_pkce,
            "scopes": client.allowed_scopes,
            "logoUri": client.logo_uri,
            "policyUri": client.policy_uri,
            "tosUri": client.tos_uri,
        })
    };
    client_of(provider, id).map_or(Value::Null, shown)
}
