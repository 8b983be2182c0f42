//! What a target's entry says that its function may call (`InvokeArn`), against what the target's file signs for.

use sync_domain::config::{Auth, AwsService, Endpoint, SigV4, Target};
use url::{Host, Url};

/// What stands behind a target that checks who sends as AWS does: its signature and its address.
pub(crate) fn signed(target: &Target) -> Option<(&SigV4, &Url)> {
    match &target.endpoint {
        Endpoint::Http(endpoint) => match &endpoint.auth {
            Auth::SigV4(sigv4) => Some((sigv4, &endpoint.url)),
            _ => None,
        },
        Endpoint::DynamoDb(_) => None,
    }
}

/// The ARN as far as the target's file says it, with words for the rest.
pub(crate) fn outline(sigv4: &SigV4, url: &Url) -> String {
    let region = sigv4.region(url).unwrap_or_else(|| "<region>".to_owned());
    let resource = match sigv4.service {
        AwsService::ExecuteApi => {
            format!("{}/<stage>/<method>/<path>", api(url).unwrap_or_else(|| "<api>".to_owned()))
        }
        AwsService::Lambda => "function:<name>".to_owned(),
    };
    format!("arn:aws:{}:{region}:<account>:{resource}", sigv4.service.as_str())
}

/// The id of the API in an address of API Gateway's own.
fn api(url: &Url) -> Option<String> {
    let Some(Host::Domain(host)) = url.host() else { return None };
    let (AwsService::ExecuteApi, _) = AwsService::of(url)? else { return None };
    let label = host.split('.').next()?;
    // Through an endpoint of a VPC the label goes on: `<api>-<endpoint>`.
    Some(label.split('-').next()?.to_owned())
}

/// What is wrong with an ARN.
pub(crate) fn problem(sigv4: &SigV4, url: &Url, arn: &str) -> Option<String> {
    let whole = || Some(format!("is no ARN of what the function calls; write {}", outline(sigv4, url)));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, service, region, account, resource] = parts.as_slice() else { return whole() };
    if *service != sigv4.service.as_str() {
        let own = sigv4.service.as_str();
        return Some(format!(
            "is one of {service}, and the target's file signs for {own}; write one of {own}"
        ));
    }
    let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    if !partition.starts_with("aws") || region.is_empty() || region.contains('*') || !digits {
        return whole();
    }
    if let Some(own) = sigv4.region(url).filter(|own| own != region) {
        return Some(format!("is in {region}, and the target's file signs for {own}; write one there"));
    }
    match sigv4.service {
        AwsService::ExecuteApi => {
            let (id, rest) = resource.split_once('/').unwrap_or_default();
            if id.is_empty() || id.contains('*') || rest.is_empty() {
                return whole();
            }
            let own = api(url).filter(|own| own != id)?;
            Some(format!("names the API {id}, and the target's address {own}; write that"))
        }
        AwsService::Lambda => {
            let name = resource.strip_prefix("function:").unwrap_or_default();
            if name.is_empty() || name.contains('*') { whole() } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(service: &str, url: &str, arn: &str) -> Option<String> {
        let sigv4: SigV4 = serde_json::from_str(&format!(r#"{{"service":"{service}"}}"#)).unwrap();
        problem(&sigv4, &Url::parse(url).unwrap(), arn)
    }

    const API: &str = "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/x";
    const URL: &str = "https://abc.lambda-url.eu-central-1.on.aws/";

    #[test]
    fn an_arn_names_one_api_or_function_where_the_target_is() {
        for (service, url, arn) in [
            ("execute-api", API, "arn:aws:execute-api:eu-central-1:111122223333:a1b2c3/prod/POST/x"),
            ("execute-api", API, "arn:aws:execute-api:eu-central-1:111122223333:a1b2c3/*"),
            (
                "execute-api",
                "https://api.example.com",
                "arn:aws-cn:execute-api:cn-north-1:111122223333:other/$default/*/*",
            ),
            (
                "execute-api",
                "https://a1b2c3-vpce-01.execute-api.eu-central-1.amazonaws.com/prod/x",
                "arn:aws:execute-api:eu-central-1:111122223333:a1b2c3/prod/POST/x",
            ),
            ("lambda", URL, "arn:aws:lambda:eu-central-1:111122223333:function:inbox"),
            ("lambda", URL, "arn:aws:lambda:eu-central-1:111122223333:function:inbox:live"),
        ] {
            assert_eq!(with(service, url, arn), None, "{arn}");
        }
        for (service, url, arn, problem) in [
            ("lambda", URL, "*", "is no ARN"),
            ("lambda", URL, "arn:aws:lambda:eu-central-1:111122223333:function:*", "is no ARN"),
            ("lambda", URL, "arn:aws:lambda:*:111122223333:function:inbox", "is no ARN"),
            ("lambda", URL, "arn:aws:lambda:eu-central-1:*:function:inbox", "is no ARN"),
            ("lambda", URL, "arn:aws:lambda:eu-central-1:111122223333:inbox", "is no ARN"),
            ("lambda", URL, "arn:aws:lambda:eu-west-1:111122223333:function:inbox", "is in eu-west-1"),
            (
                "lambda",
                URL,
                "arn:aws:execute-api:eu-central-1:111122223333:a1b2c3/*",
                "is one of execute-api",
            ),
            ("execute-api", API, "arn:aws:execute-api:eu-central-1:111122223333:*/prod/POST/x", "is no ARN"),
            ("execute-api", API, "arn:aws:execute-api:eu-central-1:111122223333:a1b2c3", "is no ARN"),
            (
                "execute-api",
                API,
                "arn:aws:execute-api:eu-central-1:111122223333:other/*",
                "names the API other",
            ),
        ] {
            let found = with(service, url, arn).unwrap_or_default();
            assert!(found.starts_with(problem), "{arn}: {found}");
        }
    }

    #[test]
    fn the_outline_says_what_is_known() {
        let of = |service: &str, url: &str| {
            let sigv4: SigV4 = serde_json::from_str(&format!(r#"{{"service":"{service}"}}"#)).unwrap();
            outline(&sigv4, &Url::parse(url).unwrap())
        };
        assert_eq!(
            of("execute-api", API),
            "arn:aws:execute-api:eu-central-1:<account>:a1b2c3/<stage>/<method>/<path>"
        );
        assert_eq!(of("lambda", URL), "arn:aws:lambda:eu-central-1:<account>:function:<name>");
        assert_eq!(of("lambda", "https://own.example"), "arn:aws:lambda:<region>:<account>:function:<name>");
    }
}
