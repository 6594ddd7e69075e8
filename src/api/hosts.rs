//! Hosts as people list them: `login.example.com`, or `*.example.com` for every name below that one.

use std::str::FromStr;

use url::{Host, Url};

use super::RegistryConnection;

/// Whether the host of an `http` or `https` URL is on a list.
pub fn is_listed(url: &str, list: &[String]) -> bool {
    let url = Url::parse(url).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let Some(host) = url.as_ref().and_then(Url::host) else { return false };
    let text = host.to_string();
    let is = |pattern: &String| match pattern.strip_prefix("*.") {
        Some(parent) => {
            let below = text.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.'));
            matches!(host, Host::Domain(_)) && below.is_some_and(|below| !below.is_empty())
        }
        None => text == *pattern,
    };
    list.iter().any(is)
}

/// The hosts that an `OAuthRegistry` may name; `None`: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryHosts(Option<Vec<String>>);

impl FromStr for RegistryHosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        match parts[..] {
            [] => Ok(Self(None)),
            ["none"] => Ok(Self(Some(Vec::new()))),
            _ => parts.into_iter().map(pattern).collect::<Result<_, _>>().map(|list| Self(Some(list))),
        }
    }
}

/// A host in the form that URLs have it.
fn pattern(text: &str) -> Result<String, String> {
    let (wildcard, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    let host = Host::parse(name)
        .map_err(|_| format!("`{text}` is no host: write login.example.com or *.example.com"))?;
    Ok(format!("{wildcard}{host}"))
}

impl RegistryHosts {
    /// The first URL of a registry that leads to a host that is not listed.
    pub fn refused<'a>(&self, connection: &'a RegistryConnection) -> Option<&'a str> {
        let list = self.0.as_ref()?;
        connection.urls().find(|url| !is_listed(url, list))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_is_listed_as_it_is_or_below_a_wildcard() {
        let list = ["portal.example.com", "*.shop.example", "127.0.0.1", "[::1]"].map(str::to_owned);
        let rows = [
            ("https://portal.example.com/cb", true, "as it is"),
            ("https://PORTAL.Example.com:8443/cb", true, "case and port do not count"),
            ("https://a.portal.example.com/cb", false, "below one without a wildcard"),
            ("https://till.shop.example/cb", true, "below"),
            ("https://a.b.shop.example/cb", true, "far below"),
            ("https://shop.example/cb", false, "the parent itself"),
            ("https://evilshop.example/cb", false, "another name that ends alike"),
            ("https://.shop.example/cb", false, "nothing below"),
            ("https://portal.example.com.evil.example/cb", false, "it begins alike"),
            ("https://evil.example/portal.example.com", false, "in the path"),
            ("https://portal.example.com@evil.example/", false, "as user information"),
            ("http://127.0.0.1:3000/cb", true, "loopback, as it is listed"),
            ("http://[::1]/cb", true, "loopback, as it is listed"),
            ("http://localhost/cb", false, "loopback that is not listed"),
            ("com.example.app:/cb", false, "no host"),
            ("com.example.app://portal.example.com/cb", false, "a host of another scheme"),
            ("nonsense", false, "no URL"),
        ];
        for (url, listed, reason) in rows {
            assert_eq!(is_listed(url, &list), listed, "{url}: {reason}");
        }
        assert!(!is_listed("https://10.0.0.1/", &["*.0.0.1".into()]), "an address has no name below another");
    }

    #[test]
    fn every_url_of_a_registry_has_to_lead_to_a_listed_host() {
        let dynamic = |member: &str| json!({"dynamicRegistration": {member: "https://login.example.com/x"}});
        let proxied = json!({
            "dynamicRegistration": {"issuer": "https://login.example.com"}, "proxyUrl": "http://proxy.example:3128",
        });
        let telnyx =
            json!({"telnyx": {"url": "https://10.1.2.3/v2", "credentialsSecretRef": {"name": "key"}}});
        let cal_com = json!({"calCom": {"credentialsSecretRef": {"name": "key"}}});
        let rows = [
            ("", telnyx.clone(), None, "left out: any"),
            ("none", dynamic("issuer"), Some("https://login.example.com/x"), "none: no registry"),
            ("*.example.com", dynamic("issuer"), None, "the issuer is listed"),
            ("Login.Example.com, 10.1.2.3", dynamic("registrationEndpoint"), None, "in any case of letters"),
            (
                "example.com",
                dynamic("registrationEndpoint"),
                Some("https://login.example.com/x"),
                "the parent",
            ),
            (
                "login.example.com",
                proxied.clone(),
                Some("http://proxy.example:3128"),
                "the proxy counts, too",
            ),
            ("login.example.com,proxy.example", proxied, None, "both are listed"),
            ("10.1.2.3", telnyx.clone(), None, "an address"),
            ("api.telnyx.com", telnyx, Some("https://10.1.2.3/v2"), "another address than the default one"),
            ("api.telnyx.com", cal_com, Some("https://api.cal.com"), "a default is named, too"),
        ];
        for (hosts, spec, refused, reason) in rows {
            let connection: RegistryConnection = serde_json::from_value(spec).unwrap();
            let hosts: RegistryHosts = hosts.parse().unwrap();
            assert_eq!(hosts.refused(&connection), refused, "{reason}");
        }
        for wrong in ["https://login.example.com", "login.example.com:443", "a b", "none,login.example.com/"]
        {
            assert!(wrong.parse::<RegistryHosts>().is_err(), "{wrong}");
        }
    }
}
