//! Signature Version 4 by the function's own role.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use sync_domain::ports::{Kind, Proof, Result, Signer, ToSign};
use zeroize::Zeroizing;

use crate::error::error;

const CREDENTIALS: &str = "aws:Credentials";
const SIGN: &str = "aws:Sign";

/// Signs with the credentials of a provider.
pub struct SigV4 {
    credentials: Option<SharedCredentialsProvider>,
    region: Option<String>,
}

impl fmt::Debug for SigV4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigV4").field("region", &self.region).finish_non_exhaustive()
    }
}

impl SigV4 {
    /// A signer that asks the provider before each signature, for the region where a request names none. Without a provider
    /// every signature fails.
    pub fn new(credentials: Option<SharedCredentialsProvider>, region: Option<String>) -> Self {
        Self { credentials, region }
    }
}

#[async_trait]
impl Signer for SigV4 {
    async fn sign(&self, request: &ToSign<'_>) -> Result<Vec<Proof>> {
        let refused = |code| error(SIGN, Kind::Refused, code);
        let region = request
            .region
            .or(self.region.as_deref())
            .ok_or_else(|| error(SIGN, Kind::Refused, "NoRegion"))?;
        let none = || error(CREDENTIALS, Kind::Unavailable, "NoCredentials");
        let credentials = self.credentials.as_ref().ok_or_else(none)?.provide_credentials().await;
        // What the provider says is left behind: it may quote the environment.
        let identity: Identity = credentials.map_err(|_| none())?.into();
        let now = u64::try_from(request.now).map_err(|_| refused("Time"))?;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(request.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| refused("Parameters"))?
            .into();
        let headers = request.headers.iter().copied();
        let body = SignableBody::Bytes(request.body);
        let signable = SignableRequest::new(request.method, request.url, headers, body)
            .map_err(|_| refused("Request"))?;
        let signed = sign(signable, &params).map_err(|_| refused("Signature"))?;
        let (headers, _) = signed.into_parts().0.into_parts();
        let mut proofs = Vec::with_capacity(headers.len());
        for header in headers {
            proofs.push((header.name(), Zeroizing::new(header.value().to_owned())));
        }
        Ok(proofs)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;

    use super::*;

    fn signer(token: Option<&str>) -> SigV4 {
        let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let keys = Credentials::new(id, secret, token.map(str::to_owned), None, "test");
        SigV4::new(Some(SharedCredentialsProvider::new(keys)), Some("us-east-1".to_owned()))
    }

    /// 2015-08-30T12:36:00Z, the time of AWS's own examples.
    const NOW: i64 = 1_440_938_160;

    const EXAMPLE: ToSign<'static> = ToSign {
        service: "iam",
        region: None,
        method: "GET",
        url: "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
        body: b"",
        now: NOW,
    };

    fn value<'a>(proofs: &'a [Proof], name: &str) -> &'a str {
        proofs.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    #[tokio::test]
    async fn the_example_of_the_documentation_gets_its_signature() {
        let proofs = signer(None).sign(&EXAMPLE).await.unwrap();
        assert_eq!(value(&proofs, "x-amz-date"), "20150830T123600Z");
        assert_eq!(
            value(&proofs, "authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// What botocore 1.43 makes of the same request.
    #[tokio::test]
    async fn another_implementation_signs_alike() {
        let request = ToSign {
            service: "execute-api",
            region: Some("eu-central-1"),
            method: "PUT",
            url: "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/customers/1/%C3%A4%20b%3A:@?stage=a%20b&a=1",
            headers: &[("content-type", "application/json")],
            body: br#"{"customer_id":1}"#,
            now: 1_795_559_963,
        };
        let proofs = signer(Some("session/token==")).sign(&request).await.unwrap();
        assert_eq!(value(&proofs, "x-amz-date"), "20261124T223923Z");
        assert_eq!(
            value(&proofs, "authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu-central-1/execute-api/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=c2684353189066c0a715235ea44f130debeb08baacdc2e7b3aa63f2c3c72e651"
        );
    }

    #[tokio::test]
    async fn a_session_token_is_signed_along() {
        let proofs = signer(Some("session")).sign(&EXAMPLE).await.unwrap();
        assert_eq!(value(&proofs, "x-amz-security-token"), "session");
        let shown = value(&proofs, "authorization");
        assert!(
            shown.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn a_region_that_is_named_goes_before_the_functions_own() {
        let request = ToSign { region: Some("eu-west-1"), ..EXAMPLE };
        let proofs = signer(None).sign(&request).await.unwrap();
        assert!(value(&proofs, "authorization").contains("/20150830/eu-west-1/iam/"));
        let nowhere = SigV4 { region: None, ..signer(None) };
        let error = nowhere.sign(&EXAMPLE).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "NoRegion"));
    }

    #[tokio::test]
    async fn credentials_that_are_not_there_are_worth_another_try() {
        #[derive(Debug)]
        struct Nobody;

        impl ProvideCredentials for Nobody {
            fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
            where
                Self: 'a,
            {
                future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("AWS_SECRET=x")))
            }
        }

        let signer = SigV4::new(Some(SharedCredentialsProvider::new(Nobody)), Some("us-east-1".to_owned()));
        let error = signer.sign(&EXAMPLE).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "NoCredentials"));
        assert!(error.source.is_none());
    }
}
