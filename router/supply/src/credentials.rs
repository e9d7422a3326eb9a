//! Who a registry is told that we are. A secret is never shown, and goes to the registry that it is
//! for and to the token server that this one names, over TLS.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// See the module.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user and a password, or an access token in place of one.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is shown as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Basic { user, .. } => write!(f, "Basic({user:?}, …)"),
            Credentials::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// Why credentials cannot be had from a docker configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not JSON, or not of the form.
    #[error("is not a docker configuration: {0}")]
    Form(String),
    /// They lie with a program.
    #[error(
        "leaves the credentials of {host} to the program docker-credential-{helper}, which is not \
         asked: `docker login` without it, or give a token"
    )]
    Helper {
        /// The registry.
        host: String,
        /// The program's name after `docker-credential-`.
        helper: String,
    },
    /// A user and a password in base64 that are none.
    #[error("\"auth\" of {host} is not the base64 of USER:PASSWORD")]
    Auth {
        /// The registry.
        host: String,
    },
}

impl Credentials {
    /// What `docker login` or `podman login` left for `host` in a `config.json`.
    pub fn from_docker(config: &str, host: &str) -> Result<Credentials, CredentialsError> {
        let config: Value = serde_json::from_str(config)
            .map_err(|error| CredentialsError::Form(error.to_string()))?;
        if let Some(entry) = entry_of(&config["auths"], host)
            && let Some(found) = in_entry(entry, host)?
        {
            return Ok(found);
        }
        let helper = config["credHelpers"][host].as_str().or_else(|| {
            config["credsStore"]
                .as_str()
                .filter(|name| !name.is_empty())
        });
        // A store may hold nothing of this host, and one that is not logged in is asked as nobody:
        // what counts is whether the file says that there is something.
        match helper {
            Some(helper)
                if entry_of(&config["auths"], host).is_some() || is_named(&config, host) =>
            {
                Err(CredentialsError::Helper {
                    host: host.to_owned(),
                    helper: helper.to_owned(),
                })
            }
            _ => Ok(Credentials::None),
        }
    }
}

fn is_named(config: &Value, host: &str) -> bool {
    config["credHelpers"][host].is_string()
}

/// The keys are hosts, or addresses as old versions wrote them: `https://host/v1/`.
fn entry_of<'a>(auths: &'a Value, host: &str) -> Option<&'a Value> {
    let plain = |key: &str| {
        let key = key.strip_prefix("https://").unwrap_or(key);
        let key = key.strip_prefix("http://").unwrap_or(key);
        key.split('/').next().unwrap_or_default().to_owned()
    };
    let auths = auths.as_object()?;
    let exact = auths.get(host);
    exact.or_else(|| {
        auths
            .iter()
            .find(|(key, _)| plain(key) == host)
            .map(|(_, v)| v)
    })
}

fn in_entry(entry: &Value, host: &str) -> Result<Option<Credentials>, CredentialsError> {
    if let Some(token) = entry["registrytoken"].as_str().filter(|t| !t.is_empty()) {
        return Ok(Some(Credentials::Token(token.to_owned())));
    }
    if let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) {
        let wrong = || CredentialsError::Auth {
            host: host.to_owned(),
        };
        let bytes = STANDARD.decode(auth).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        return Ok(Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    match (entry["username"].as_str(), entry["password"].as_str()) {
        (Some(user), Some(password)) => Ok(Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn what_a_login_left_is_found() {
        let auth = STANDARD.encode("me:se:cret");
        let config = format!(
            r#"{{"auths":{{"a.example":{{"auth":"{auth}"}},
                "https://b.example/v1/":{{"username":"u","password":"p"}},
                "c.example":{{"registrytoken":"t"}},"d.example":{{}}}}}}"#
        );
        let found = |host| Credentials::from_docker(&config, host).unwrap();
        assert_eq!(found("a.example"), basic("me", "se:cret"));
        assert_eq!(found("b.example"), basic("u", "p"));
        assert_eq!(found("c.example"), Credentials::Token("t".into()));
        assert_eq!(found("d.example"), Credentials::None);
        assert_eq!(found("e.example"), Credentials::None);
        assert_eq!(
            Credentials::from_docker("{}", "a.example"),
            Ok(Credentials::None)
        );
    }

    #[test]
    fn what_is_elsewhere_or_wrong_is_said() {
        let helped = r#"{"credsStore":"desktop","auths":{"a.example":{}}}"#;
        let error = Credentials::from_docker(helped, "a.example").unwrap_err();
        assert!(
            error.to_string().contains("docker-credential-desktop"),
            "{error}"
        );
        let other = Credentials::from_docker(helped, "b.example");
        assert_eq!(other, Ok(Credentials::None));
        let helped = r#"{"credHelpers":{"a.example":"ecr-login"}}"#;
        let error = Credentials::from_docker(helped, "a.example").unwrap_err();
        assert!(
            error.to_string().contains("docker-credential-ecr-login"),
            "{error}"
        );
        let wrong = r#"{"auths":{"a.example":{"auth":"bWU="}}}"#;
        let error = Credentials::from_docker(wrong, "a.example").unwrap_err();
        assert!(
            error.to_string().contains("base64 of USER:PASSWORD"),
            "{error}"
        );
        assert!(Credentials::from_docker("no", "a.example").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:?}",
            basic("me", "hidden"),
            Credentials::Token("hidden".into())
        );
        assert!(!shown.contains("hidden") && shown.contains("me"), "{shown}");
    }
}
