//! Lists of addresses and networks, as settings have them.

use ipnet::IpNet;
use std::net::IpAddr;

/// Addresses and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Reads addresses and networks (`10.0.0.0/8`) between commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let networks = items.map(|item| {
            item.parse::<IpNet>()
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| format!("`{item}` is neither an address nor a network such as 10.0.0.0/8"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is one of them or in one of them.
    pub fn covers(&self, address: IpAddr) -> bool {
        // A port that listens on both kinds of addresses shows IPv4 ones as IPv6.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl std::fmt::Display for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, network) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            network.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_addresses_and_networks() {
        let list = Networks::parse("10.0.0.0/8, ::1,,192.0.2.7").unwrap();
        assert_eq!(list.to_string(), "10.0.0.0/8,::1/128,192.0.2.7/32");
        assert_eq!(Networks::parse(&list.to_string()).unwrap(), list);
        assert!(list.covers("10.9.9.9".parse().unwrap()) && !list.covers("11.0.0.1".parse().unwrap()));
        assert!(list.covers("::ffff:10.9.9.9".parse().unwrap()), "the same address in IPv6 form");
        assert!(Networks::parse("10.0.0.0/33").unwrap_err().contains("10.0.0.0/33"));
    }
}
