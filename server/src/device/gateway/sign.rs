//! How a gateway proves that it knows a device's secret, or a product's.

use crate::device::login::Method;
use updraft_core::topo::Proof;

/// A signature that is not checked yet; never logged with the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// How; `None`: by an unknown method.
    pub method: Option<Method>,
    /// Of what.
    pub content: String,
    /// The signature in hexadecimal digits of either case.
    pub sign: String,
}

impl Signed {
    /// A signature by the method of this name; without a name it is `hmacmd5`, as in a CONNECT.
    pub fn new(method: Option<&str>, content: String, sign: String) -> Self {
        let method = match method {
            None | Some("") => Some(Method::HmacMd5),
            // The page of the platform lists this name beside `hmacSha256`, for the same.
            Some(name) if name.eq_ignore_ascii_case("sha256") => Some(Method::HmacSha256),
            Some(name) => Method::from_name(name),
        };
        Self { method, content, sign }
    }

    /// Whether it was made with this secret; takes as long for a wrong one.
    pub fn proof(&self, secret: &str) -> Proof {
        match self.method {
            None => Proof::UnknownMethod,
            Some(method) if method.verify(secret, &self.content, self.sign.as_bytes()) => Proof::Good,
            Some(_) => Proof::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of the manual's example, signed with `secret`.
    fn signed(method: Option<&str>, sign: &str) -> Proof {
        let content = "clientId12345deviceNamedeviceproductKeypktimestamp789".to_owned();
        Signed::new(method, content, sign.to_owned()).proof("secret")
    }

    #[test]
    fn methods_have_names_in_any_case() {
        let md5 = "14b198324fe55e1d3c88f2e705e201ee";
        let sha1 = "fafd82a3d602b37fb0fa8b7892f24a477f851a14";
        let sha256 = "6074a46a91b1ebb2cc4ea42790ad0e80202c9843859fc292e57c4eb19fad9e57";
        for (method, sign, expected) in [
            (None, md5, Proof::Good),
            (Some(""), md5, Proof::Good),
            (Some("hmacMd5"), md5, Proof::Good),
            (Some("hmacmd5"), &md5.to_uppercase(), Proof::Good),
            (Some("hmacSha1"), sha1, Proof::Good),
            (Some("HMACSHA1"), sha1, Proof::Good),
            (Some("hmacSha256"), sha256, Proof::Good),
            (Some("Sha256"), sha256, Proof::Good),
            (Some("sha256"), sha1, Proof::Wrong),
            (Some("hmacSha1"), md5, Proof::Wrong),
            (Some("hmacMd5"), "", Proof::Wrong),
            (Some("hmacMd5"), "no digits", Proof::Wrong),
            (Some("crc"), md5, Proof::UnknownMethod),
        ] {
            assert_eq!(signed(method, sign), expected, "{method:?} {sign}");
        }
    }
}
