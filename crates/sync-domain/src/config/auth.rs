//! How a delivery proves to its target where it comes from, as written in `endpoint.auth`.

use ipnet::IpNet;
use serde::Deserialize;
use url::{Host, Url};

use super::target::{https_port, networks, url};

/// How a delivery proves that it comes from here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Not at all.
    None,
    /// Signed as Standard Webhooks say, with the secret of this name in Secrets Manager.
    StandardWebhooks(String),
    /// User name and password, as `Authorization: Basic …`; the secret of this name holds both.
    Basic(String),
    /// The secret of this name is sent as `Authorization: Bearer …`.
    Bearer(String),
    /// A secret is sent as a header.
    ApiKey {
        /// The header's name.
        header: String,
        /// The name of the secret in Secrets Manager.
        secret: String,
    },
    /// A token of a token endpoint, as `Authorization: Bearer …`.
    #[serde(rename = "oauth2")]
    OAuth2(Box<OAuth2>),
    /// Signed by the function's own role, as services of AWS want it.
    #[serde(rename = "sigv4")]
    SigV4(SigV4),
}

impl Auth {
    /// The name of the secret in Secrets Manager, if there is one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::None | Self::SigV4(_) => None,
            Self::StandardWebhooks(secret)
            | Self::Basic(secret)
            | Self::Bearer(secret)
            | Self::ApiKey { secret, .. } => Some(secret),
            Self::OAuth2(oauth2) => Some(&oauth2.secret),
        }
    }
}

/// Client credentials of OAuth 2.0 (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// The token endpoint: https, as the target's own address.
    #[serde(deserialize_with = "url")]
    pub token_url: Url,
    /// The name of the secret in Secrets Manager that holds client id and client secret.
    pub secret: String,
    /// What the token is for, in the words of the token endpoint, with spaces between.
    #[serde(default)]
    pub scope: Option<String>,
    /// Who the token is for, where the token endpoint asks for that.
    #[serde(default)]
    pub audience: Option<String>,
    /// How the client shows itself to the token endpoint; `basic` without it.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Private networks that the token endpoint may be in; all others are refused.
    #[serde(default, deserialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
    /// Ports that the token endpoint may use; 443 without it.
    #[serde(default = "https_port")]
    pub ports: Vec<u16>,
}

/// How a client shows itself to a token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// As `Authorization: Basic …`.
    #[default]
    Basic,
    /// As `client_id` and `client_secret` in the body.
    Body,
}

/// Signature Version 4.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigV4 {
    /// The service that checks the signature.
    pub service: AwsService,
    /// The region that it checks it for; without it the one in its address, else the function's own.
    #[serde(default)]
    pub region: Option<String>,
}

impl SigV4 {
    /// The region to sign for; none = the function's own.
    pub fn region(&self, url: &Url) -> Option<String> {
        self.region.clone().or_else(|| AwsService::of(url).map(|(_, region)| region))
    }
}

/// A service of AWS that targets stand behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AwsService {
    /// API Gateway.
    #[serde(rename = "execute-api")]
    ExecuteApi,
    /// The URL of a Lambda function.
    #[serde(rename = "lambda")]
    Lambda,
}

impl AwsService {
    /// The service's name in signatures and ARNs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExecuteApi => "execute-api",
            Self::Lambda => "lambda",
        }
    }

    /// The service and region that an address of AWS's own names; none for a domain of somebody's own.
    pub fn of(url: &Url) -> Option<(Self, String)> {
        let Some(Host::Domain(host)) = url.host() else { return None };
        let labels: Vec<&str> = host.split('.').collect();
        match labels.as_slice() {
            [_, "execute-api", region, "amazonaws", "com"]
            | [_, "execute-api", region, "amazonaws", "com", "cn"] => {
                Some((Self::ExecuteApi, (*region).to_owned()))
            }
            [_, "lambda-url", region, "on", "aws"] => Some((Self::Lambda, (*region).to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_aws_names_its_service_and_region() {
        let of = |url: &str| {
            AwsService::of(&Url::parse(url).unwrap()).map(|(service, region)| (service.as_str(), region))
        };
        let region = |name: &str| name.to_owned();
        for (url, expect) in [
            (
                "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/x",
                Some(("execute-api", region("eu-central-1"))),
            ),
            (
                "https://a1-vpce-2.execute-api.us-east-1.amazonaws.com",
                Some(("execute-api", region("us-east-1"))),
            ),
            (
                "https://a1b2c3.execute-api.cn-north-1.amazonaws.com.cn",
                Some(("execute-api", region("cn-north-1"))),
            ),
            ("https://abc.lambda-url.eu-west-1.on.aws/", Some(("lambda", region("eu-west-1")))),
            ("https://api.example.com", None),
            ("https://execute-api.eu-west-1.amazonaws.com.evil.example", None),
            ("https://127.0.0.1:1", None),
        ] {
            assert_eq!(of(url), expect, "{url}");
        }
    }

    #[test]
    fn the_region_is_the_one_that_is_written_then_the_addresss_own() {
        let url = Url::parse("https://abc.lambda-url.eu-west-1.on.aws/").unwrap();
        let signed = |text| serde_json::from_str::<SigV4>(text).unwrap();
        assert_eq!(signed(r#"{"service":"lambda"}"#).region(&url).as_deref(), Some("eu-west-1"));
        let written = signed(r#"{"service":"lambda","region":"eu-north-1"}"#);
        assert_eq!(written.region(&url).as_deref(), Some("eu-north-1"));
        let own = Url::parse("https://api.example.com").unwrap();
        assert_eq!(signed(r#"{"service":"execute-api"}"#).region(&own), None);
    }
}
