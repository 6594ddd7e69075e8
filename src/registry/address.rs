//! Which addresses are sent to: whoever names a URL owns an HTTP client in the cluster.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

/// Where clouds answer every machine, beside 169.254.169.254, which is link-local: Azure, Alibaba, AWS and Google.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Networks, written as CIDRs or single addresses with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = |part: &str| {
            let single = || part.parse().map(|address: IpAddr| IpNet::from(address));
            part.parse().or_else(|_| single()).map_err(|_| format!("`{part}` is no CIDR, like 10.1.2.3/32"))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl Networks {
    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The addresses that are never sent to, and the exceptions.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Networks,
    api_server: Vec<IpAddr>,
    /// Names of the API server: what they resolve to may change.
    api_server_names: Vec<String>,
}

/// An address that is not sent to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{host} is at {address}, {class}, so nothing is sent there: name another host, or start the operator with \
     --allowed-addresses={address}"
)]
pub struct NotAllowed {
    host: String,
    address: IpAddr,
    class: &'static str,
}

impl AddressPolicy {
    /// Refuses what is this machine's or the link's own, and the API server, by its addresses or names.
    pub fn new<'a>(allowed: Networks, api_server: impl IntoIterator<Item = &'a str>) -> Self {
        let mut policy = Self { allowed, ..Self::default() };
        for host in api_server {
            match host.trim_matches(['[', ']']).parse() {
                Ok(address) => policy.api_server.push(address),
                Err(_) => policy.api_server_names.push(host.to_owned()),
            }
        }
        policy
    }

    /// Checks a URL whose host is an address, which nobody resolves.
    pub fn check(&self, url: &Url) -> Result<(), NotAllowed> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        self.permitted(&address.to_string(), vec![address], &self.api_server).map(drop)
    }

    /// Those of a host's addresses that may be connected to.
    fn permitted(
        &self,
        host: &str,
        addresses: Vec<IpAddr>,
        api_server: &[IpAddr],
    ) -> Result<Vec<IpAddr>, NotAllowed> {
        let mut refused = None;
        let mut permitted = addresses;
        permitted.retain(|address| match self.class(*address, api_server) {
            Some(class) => {
                refused.get_or_insert(NotAllowed { host: host.to_owned(), address: *address, class });
                false
            }
            None => true,
        });
        match refused {
            Some(refused) if permitted.is_empty() => Err(refused),
            _ => Ok(permitted),
        }
    }

    /// What an address is, if it is not sent to.
    fn class(&self, address: IpAddr, api_server: &[IpAddr]) -> Option<&'static str> {
        let forms = [Some(address), embedded(address).map(IpAddr::V4)];
        let forms = || forms.iter().flatten().copied();
        if forms().any(|form| self.allowed.contain(form)) {
            return None;
        }
        let of_api_server =
            |form: IpAddr| api_server.contains(&form).then_some("an address of the API server");
        forms().find_map(|form| reserved(form).or_else(|| of_api_server(form)))
    }

    async fn lookup(self, name: &str) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
        let mut api_server = self.api_server.clone();
        for name in &self.api_server_names {
            // A name without an address leads nowhere.
            api_server.extend(addresses(name).await.unwrap_or_default());
        }
        let permitted = self.permitted(name, addresses(name).await?, &api_server)?;
        // The client puts in the URL's port.
        Ok(Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0))))
    }
}

/// What is connected to is what was checked: a name that resolves to something else a moment later gains nothing.
impl Resolve for AddressPolicy {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.clone();
        Box::pin(async move { policy.lookup(name.as_str()).await })
    }
}

async fn addresses(name: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, by NAT64 (RFC 6052, RFC 8215) or by 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    match address.segments() {
        [0x64, 0xff9b, 0 | 1, .., high, low] | [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address.to_ipv4(),
    }
}

fn reserved(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    // 0.0.0.0/8 is "this network" (RFC 1122); Linux takes 0.0.0.0 for loopback.
    let this_network = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_unspecified() || this_network {
        Some("an unspecified address")
    } else if address.is_multicast() || broadcast {
        Some("a multicast address")
    } else if METADATA.contains(&address) {
        Some("an address of cloud metadata")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API_SERVER: [&str; 3] = ["10.96.0.1", "[fd00::1]", "localhost"];

    fn allowing(allowed: &str) -> AddressPolicy {
        AddressPolicy::new(allowed.parse().unwrap(), API_SERVER)
    }

    fn refusal(policy: &AddressPolicy, host: &str) -> Option<String> {
        let url = Url::parse(&format!("https://{host}:8443/x")).unwrap();
        policy.check(&url).err().map(|error| error.to_string())
    }

    #[test]
    fn an_address_of_ones_own_is_refused_in_whatever_form_it_is_written() {
        let rows = [
            ("127.0.0.1", "loopback", ""),
            ("127.255.1.2", "loopback", "all of 127.0.0.0/8"),
            ("2130706433", "loopback", "as one number"),
            ("0x7f.1", "loopback", "in hexadecimal digits and short"),
            ("017700000001", "loopback", "in octal digits"),
            ("[::1]", "loopback", ""),
            ("[::ffff:127.0.0.1]", "loopback", "mapped"),
            ("[::127.0.0.1]", "loopback", "compatible"),
            ("[64:ff9b::7f00:1]", "loopback", "by NAT64"),
            ("[64:ff9b:1::7f00:1]", "loopback", "by NAT64 of a network's own"),
            ("[2002:7f00:1::1]", "loopback", "by 6to4"),
            ("0.0.0.0", "unspecified", "loopback, for Linux"),
            ("0.1.2.3", "unspecified", "this network"),
            ("[::]", "unspecified", ""),
            ("[::ffff:0:0]", "unspecified", "mapped"),
            ("169.254.169.254", "link-local", "cloud metadata"),
            ("169.254.170.2", "link-local", "credentials of tasks and pods at AWS"),
            ("[fe80::1]", "link-local", ""),
            ("[febf:ffff::1]", "link-local", "the end of fe80::/10"),
            ("[::ffff:169.254.169.254]", "link-local", "mapped"),
            ("[64:ff9b::a9fe:a9fe]", "link-local", "by NAT64"),
            ("[2002:a9fe:a9fe::]", "link-local", "by 6to4"),
            ("224.0.0.1", "multicast", ""),
            ("255.255.255.255", "multicast", "broadcast"),
            ("[ff02::1]", "multicast", ""),
            ("168.63.129.16", "cloud metadata", "Azure"),
            ("100.100.100.200", "cloud metadata", "Alibaba"),
            ("[fd00:ec2::254]", "cloud metadata", "AWS"),
            ("[fd20:ce::254]", "cloud metadata", "Google"),
            ("10.96.0.1", "API server", "its address"),
            ("[::ffff:10.96.0.1]", "API server", "mapped"),
            ("[fd00::1]", "API server", "its other address"),
        ];
        for (host, class, reason) in rows {
            let said = refusal(&allowing(""), host).unwrap_or_else(|| panic!("{host} is sent to: {reason}"));
            assert!(said.contains(class), "{host}: {reason}: {said}");
            assert!(said.contains("--allowed-addresses="), "it says what to do: {said}");
        }
    }

    #[test]
    fn every_other_address_is_sent_to() {
        let rows = [
            ("10.96.0.2", "a service beside the API server's"),
            ("192.168.1.1", "registries in the same network"),
            ("172.16.0.1", "the same"),
            ("100.64.0.1", "shared addresses: pods, in some clusters"),
            ("[fd00::2]", "private, in IPv6"),
            ("8.8.8.8", "the world"),
            ("[2606:4700::1111]", "the world"),
            ("[64:ff9b::808:808]", "the world by NAT64"),
            ("as.example", "a name is checked when it is resolved"),
        ];
        for (host, reason) in rows {
            assert_eq!(refusal(&allowing(""), host), None, "{host}: {reason}");
        }
    }

    #[test]
    fn an_exception_allows_an_address_in_all_its_forms_and_nothing_beside_it() {
        let policy = allowing("127.0.0.1, ::1/128,10.96.0.0/12,");
        let rows = [
            ("127.0.0.1", true, "as it is written"),
            ("[::ffff:127.0.0.1]", true, "mapped"),
            ("[64:ff9b::7f00:1]", true, "by NAT64"),
            ("[::1]", true, "as it is written"),
            ("10.96.0.1", true, "the API server, since its network is allowed"),
            ("127.0.0.2", false, "a neighbour"),
            ("[fd00::1]", false, "the API server's other address"),
            ("169.254.169.254", false, "nobody spoke of it"),
        ];
        for (host, allowed, reason) in rows {
            assert_eq!(refusal(&policy, host).is_none(), allowed, "{host}: {reason}");
        }
        for wrong in ["localhost", "10.0.0.0/33", "127.0.0.1;::1"] {
            assert!(wrong.parse::<Networks>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_several_addresses_only_those_that_may_be_sent_to_are_left() {
        let policy = allowing("");
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mixed = vec![address("127.0.0.1"), address("192.0.2.1"), address("fe80::1")];
        assert_eq!(policy.permitted("as.example", mixed, &[]), Ok(vec![address("192.0.2.1")]));
        let refused = policy.permitted("as.example", vec![address("192.0.2.1")], &[address("192.0.2.1")]);
        let said = refused.unwrap_err().to_string();
        assert!(said.starts_with("as.example is at 192.0.2.1, an address of the API server"), "{said}");
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let lookup = |policy: AddressPolicy| async move {
            policy.lookup("localhost").await.map(Iterator::count).map_err(|error| error.to_string())
        };
        let refused = lookup(allowing("")).await.unwrap_err();
        assert!(
            refused.starts_with("localhost is at ") && refused.contains("a loopback address"),
            "{refused}"
        );
        assert!(lookup(allowing("127.0.0.0/8,::1")).await.is_ok_and(|count| count > 0), "allowed");
    }
}
