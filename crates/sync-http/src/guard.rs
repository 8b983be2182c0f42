//! Which addresses a request may go to: the guard against server-side request forgery.
//!
//! What is worth attacking in a function is the runtime API on loopback, link-local services, and the neighbours in
//! a VPC. The guard looks at the address as written and again at every address that a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not https (http for loopback alone, where that is allowed).
    #[error("only https is allowed")]
    Scheme,
    /// A user name or password in the address.
    #[error("no user name or password in an address")]
    UserInfo,
    /// No host.
    #[error("an address needs a host")]
    NoHost,
    /// A port that is not listed.
    #[error("the port is not allowed")]
    Port,
    /// A network that is private, reserved or special, and no exception.
    #[error("the network is not allowed")]
    Network,
}

/// The rules for the addresses of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Lets requests go to loopback, by http too and on any port: for a laptop.
    pub allow_loopback: bool,
    /// Private networks that requests may go to. Loopback, link-local and multicast addresses stay refused.
    pub allow_networks: Vec<IpNet>,
    /// Ports that requests may go to.
    pub ports: Vec<u16>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { allow_loopback: false, allow_networks: Vec::new(), ports: vec![443] }
    }
}

impl Guard {
    /// Checks an address as written. A name passes here and is checked again when it is resolved.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        let host = url.host().ok_or(Refusal::NoHost)?;
        let loopback = self.allow_loopback && names_loopback(&host);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(Refusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        let port = url.port_or_known_default().ok_or(Refusal::Port)?;
        if !loopback && !self.ports.contains(&port) {
            return Err(Refusal::Port);
        }
        match host {
            Host::Ipv4(ip) => self.check_ip(IpAddr::V4(ip)),
            Host::Ipv6(ip) => self.check_ip(IpAddr::V6(ip)),
            Host::Domain(_) => Ok(()),
        }
    }

    /// Checks an address that a connection would be made to.
    pub fn check_ip(&self, ip: IpAddr) -> Result<(), Refusal> {
        let ip = ip.to_canonical();
        if ip.is_loopback() && self.allow_loopback {
            return Ok(());
        }
        let inside = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&ip));
        let exception = self.allow_networks.iter().any(|network| network.contains(&ip));
        if inside(NEVER) || (inside(SPECIAL) && !exception) { Err(Refusal::Network) } else { Ok(()) }
    }
}

/// Whether a host is loopback by what it says; a name's addresses are checked all the same.
pub(crate) fn names_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).to_canonical().is_loopback(),
        Host::Domain(name) => is_localhost(name),
    }
}

pub(crate) fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(first: u16, second: u16, third: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), length))
}

/// Networks that no exception opens: the function's own and its link's.
const NEVER: &[IpNet] = &[
    v4(0, 0, 0, 0, 8),      // this host
    v4(127, 0, 0, 0, 8),    // loopback
    v4(169, 254, 0, 0, 16), // link-local, metadata services
    v4(224, 0, 0, 0, 4),    // multicast
    v4(240, 0, 0, 0, 4),    // reserved, broadcast
    v6(0, 0, 0, 96),        // unspecified, loopback, IPv4-compatible (IPv4-mapped ones are looked at as IPv4)
    v6(0xfe80, 0, 0, 10),   // link-local
    v6(0xff00, 0, 0, 8),    // multicast
];

/// Networks that are private or reserved (IANA's special-purpose registries), or that lead to IPv4 addresses
/// past the rules above.
const SPECIAL: &[IpNet] = &[
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // IETF protocols
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v6(0x64, 0xff9b, 0, 96),  // NAT64
    v6(0x64, 0xff9b, 1, 48),  // NAT64, local
    v6(0x100, 0, 0, 64),      // discard
    v6(0x2001, 0, 0, 23),     // IETF protocols, Teredo
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),     // 6to4
    v6(0x3fff, 0, 0, 20),     // documentation
    v6(0x5f00, 0, 0, 16),     // segment routing
    v6(0xfc00, 0, 0, 7),      // private
    v6(0xfec0, 0, 0, 10),     // site-local, deprecated
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, url: &str) -> Result<(), Refusal> {
        guard.check(&Url::parse(url).unwrap())
    }

    fn laptop() -> Guard {
        Guard { allow_loopback: true, ..Guard::default() }
    }

    #[test]
    fn public_addresses_pass() {
        for url in [
            "https://example.com/hook?x=1",
            "https://example.com:443/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://172.32.0.1/",
            "https://[2001:200::1]/",
            "https://100.128.0.1/",
        ] {
            assert_eq!(check(&Guard::default(), url), Ok(()), "{url}");
        }
    }

    #[test]
    fn private_and_special_addresses_are_refused_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "127.0.0.1.",
            "127.255.255.255",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "[64:ff9b::10.0.0.1]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[3fff::1]",
            "[5f00::1]",
            "[fc00::1]",
            "[fdff::1]",
            "[fe80::1]",
            "[febf::1]",
            "[fec0::1]",
            "[ff02::1]",
        ] {
            let url = format!("https://{host}/");
            assert_eq!(check(&Guard::default(), &url), Err(Refusal::Network), "{url}");
        }
        assert!(Url::parse("https://１２７.0.0.1/").is_err(), "a host that is not ASCII is no host");
        for unreadable in
            ["https://[fe80::1%25eth0]/", "https://[::1", "https://1.2.3.4.5.6/", "https://0x100000000/"]
        {
            assert!(Url::parse(unreadable).is_err(), "{unreadable}");
        }
    }

    #[test]
    fn only_https_without_userinfo_on_listed_ports_passes() {
        for (url, expect) in [
            ("http://example.com/", Refusal::Scheme),
            ("http://127.0.0.1/", Refusal::Scheme),
            ("ftp://example.com/", Refusal::Scheme),
            ("ws://example.com/", Refusal::Scheme),
            ("gopher://example.com/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::NoHost),
            ("data:,x", Refusal::NoHost),
            ("https://user@example.com/", Refusal::UserInfo),
            ("https://:secret@example.com/", Refusal::UserInfo),
            ("https://example.com:8443/", Refusal::Port),
            ("https://example.com:80/", Refusal::Port),
            ("https://example.com:0/", Refusal::Port),
        ] {
            assert_eq!(check(&Guard::default(), url), Err(expect), "{url}");
        }
        let other_port = Guard { ports: vec![8443], ..Guard::default() };
        assert_eq!(check(&other_port, "https://example.com:8443/"), Ok(()));
        assert_eq!(check(&other_port, "https://example.com/"), Err(Refusal::Port));
    }

    #[test]
    fn a_laptop_reaches_loopback_and_nothing_else() {
        for url in [
            "http://127.0.0.1:8080/",
            "http://localhost:1/",
            "https://localhost/",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(check(&laptop(), url), Ok(()), "{url}");
        }
        for (url, expect) in [
            ("http://example.com/", Refusal::Scheme),
            ("http://localhost.example.com/", Refusal::Scheme),
            ("http://10.0.0.1/", Refusal::Scheme),
            ("https://10.0.0.1/", Refusal::Network),
            ("https://169.254.169.254/", Refusal::Network),
            ("https://0.0.0.0/", Refusal::Network),
            ("http://user@127.0.0.1/", Refusal::UserInfo),
        ] {
            assert_eq!(check(&laptop(), url), Err(expect), "{url}");
        }
    }

    #[test]
    fn an_exception_opens_its_network_and_no_more() {
        let guard =
            |network: &str| Guard { allow_networks: vec![network.parse().unwrap()], ..Guard::default() };
        assert_eq!(check(&guard("10.20.0.0/16"), "https://10.20.3.4/"), Ok(()));
        assert_eq!(check(&guard("10.20.0.0/16"), "https://[::ffff:10.20.3.4]/"), Ok(()));
        assert_eq!(check(&guard("10.20.0.0/16"), "https://10.21.3.4/"), Err(Refusal::Network));
        assert_eq!(check(&guard("fd00::/8"), "https://[fd12::1]/"), Ok(()));
        for never in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(
                check(&guard("0.0.0.0/0"), &format!("https://{never}/")),
                Err(Refusal::Network),
                "{never}"
            );
        }
        for never in ["[::1]", "[fe80::1]", "[ff02::1]", "[::127.0.0.1]"] {
            assert_eq!(check(&guard("::/0"), &format!("https://{never}/")), Err(Refusal::Network), "{never}");
        }
    }
}
