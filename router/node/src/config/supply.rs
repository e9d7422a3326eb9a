//! Where components may come from, and who must have signed them: `[plugins]`, `[[registry]]`.

use super::Problem;
use super::files::file_error;
use super::names::{Kind, Names};
use super::read::{Document, Found, Table};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use waypost_supply::{KeyError, PublicKey, TrustedKeys};

/// `[plugins]`: what holds for all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginsConfig {
    /// Who must have signed a component that is to run; without a key, nobody.
    pub trusted_keys: TrustedKeys,
    /// How long the pulls of a start may take, all together.
    pub pull_timeout: Duration,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        PluginsConfig {
            trusted_keys: TrustedKeys::default(),
            pull_timeout: Duration::from_secs(30),
        }
    }
}

/// `[[registry]]`: how a registry is reached, where it is not reached by TLS, with the system's
/// certificates, as nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `HOST[:PORT]`, as it stands in `oci`.
    pub host: String,
    /// Without TLS.
    pub insecure_http: bool,
    /// Who vouches for it, instead of the system's certificates: a PEM file.
    pub ca: Option<PathBuf>,
    /// As whom.
    pub credentials: CredentialsConfig,
}

/// Where credentials lie. The files are read when they are needed, so that they may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialsConfig {
    /// As nobody.
    #[default]
    None,
    /// What `docker login` left.
    Docker(PathBuf),
    /// A file whose first line is a token.
    Token(PathBuf),
    /// A user, and a file whose first line is the password.
    Password {
        /// The user.
        user: String,
        /// The file.
        file: PathBuf,
    },
}

/// The longest file of a public key; minisign writes two lines.
const KEY_FILE_BYTES_MAX: u64 = 16 << 10;
/// Keys of one list.
const KEYS_MAX: usize = 64;

/// `[plugins]`
pub(super) fn plugins(mut table: Table<'_, '_>) -> PluginsConfig {
    let default = PluginsConfig::default();
    let config = PluginsConfig {
        trusted_keys: trusted_keys(&mut table).unwrap_or_default(),
        pull_timeout: table.duration(
            "pull_timeout",
            default.pull_timeout,
            Duration::from_secs(1)..=Duration::from_secs(600),
        ),
    };
    table.finish();
    config
}

/// `[[registry]]`
pub(super) fn registry(mut table: Table<'_, '_>, names: &mut Names) -> Option<RegistryConfig> {
    let doc = table.doc;
    let host = table.required("host");
    if let Some(host) = &host {
        names.declare(doc, Kind::Registry, host);
        if !waypost_supply::is_host(&host.value) {
            let expected = "a host such as \"registry.example\" or \"localhost:5000\"";
            let problem = Problem::unexpected(format!("{:?}", host.value), expected);
            doc.error(&host.place, host.at, problem);
        }
    }
    let insecure_http = table.boolean("insecure_http", false);
    let ca = file(&mut table, "ca");
    if insecure_http && ca.is_some() {
        let text = "has insecure_http and ca: without TLS nobody vouches for it".to_owned();
        table.error(table.at, Problem::Other(text));
    }
    let docker = file(&mut table, "docker_config");
    let token = file(&mut table, "token_file");
    let (user, password) = (table.string("user"), file(&mut table, "password_file"));
    let credentials = match (docker, token, user, password) {
        (None, None, None, None) => CredentialsConfig::None,
        (Some(docker), None, None, None) => CredentialsConfig::Docker(docker),
        (None, Some(token), None, None) => CredentialsConfig::Token(token),
        (None, None, Some(user), Some(file)) => CredentialsConfig::Password {
            user: user.value,
            file,
        },
        _ => {
            let text = "expected one of docker_config, token_file, or user with password_file";
            table.error(table.at, Problem::Other(text.to_owned()));
            CredentialsConfig::None
        }
    };
    table.finish();
    Some(RegistryConfig {
        host: host?.value.to_ascii_lowercase(),
        insecure_http,
        ca,
        credentials,
    })
}

/// A file that is named, and can be read.
fn file(table: &mut Table<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let found = table.string(key)?;
    let path = table.doc.directory().join(&found.value);
    if let Err(error) = std::fs::File::open(&path) {
        file_error(table.doc, &found, &path, error);
    }
    Some(path)
}

/// `trusted_keys`, where the table has it.
pub(super) fn trusted_keys(table: &mut Table<'_, '_>) -> Option<TrustedKeys> {
    const KEY: &str = "trusted_keys";
    let is_there = table.has(KEY);
    let found = table.strings(KEY);
    if !is_there {
        return None;
    }
    if found.is_empty() {
        let text = "trusted_keys names no key: leave it out where no signatures are asked for";
        table.error(table.at, Problem::Other(text.to_owned()));
    }
    if found.len() > KEYS_MAX {
        let text = format!("trusted_keys has {} keys, limit {KEYS_MAX}", found.len());
        table.error(table.at, Problem::Other(text));
    }
    let mut keys: Vec<PublicKey> = Vec::new();
    for found in &found {
        let Some(key) = public_key(table.doc, found) else {
            continue;
        };
        if keys.contains(&key) {
            let text = format!("the key {} stands here twice", key.id());
            table
                .doc
                .error(&found.place, found.at, Problem::Other(text));
        }
        keys.push(key);
    }
    Some(TrustedKeys::new(keys))
}

/// A key, or the file that it stands in.
fn public_key(doc: &Document<'_>, found: &Found<String>) -> Option<PublicKey> {
    match PublicKey::parse(&found.value) {
        Ok(key) => return Some(key),
        Err(error @ KeyError::Damaged) => {
            let text = format!("{:?} {error}", found.value);
            doc.error(&found.place, found.at, Problem::Other(text));
            return None;
        }
        Err(KeyError::NoKey) => {}
    }
    let path = doc.directory().join(&found.value);
    let mut text = String::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text));
    let key = match read {
        Ok(_) => PublicKey::parse(&text).map_err(|error| error.to_string()),
        Err(error) => Err(format!(
            "{error}; a minisign public key (\"RW…\", 56 characters), or a file with one, expected"
        )),
    };
    match key {
        Ok(key) => Some(key),
        Err(error) => {
            file_error(doc, found, &path, error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Checked, check_text};
    use std::path::Path;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn check(directory: &Path, text: &str) -> Checked {
        check_text(&directory.join("w.toml"), text)
    }

    fn errors(directory: &Path, text: &str) -> Vec<String> {
        let checked = check(directory, text);
        let name = directory.display().to_string();
        let errors = checked.errors.iter();
        errors
            .map(|e| e.to_string().replace(&name, "DIR"))
            .collect()
    }

    #[test]
    fn keys_stand_there_or_in_files() {
        let home = tempfile::TempDir::new().unwrap();
        let file = format!("untrusted comment: minisign public key\n{KEY}\n");
        std::fs::write(home.path().join("team.pub"), file).unwrap();
        for key in [KEY, "team.pub"] {
            let text = format!(
                "[plugins]\ntrusted_keys = [\"{key}\"]\n[[plugin]]\nname = \"p\"\n\
                 deployed = true\ntrusted_keys = [\"{key}\"]\n"
            );
            let config = check(home.path(), &text).config.unwrap();
            let keys = config.supply.trusted_keys.keys();
            assert_eq!(keys[0].id().to_string(), "E7620F1842B4E81F");
            let own = config.plugins[0].trusted_keys.as_ref().unwrap();
            assert_eq!(own.keys(), keys);
        }
    }

    #[test]
    fn each_mistake_has_its_place() {
        let home = tempfile::TempDir::new().unwrap();
        std::fs::write(home.path().join("empty.pub"), "").unwrap();
        for (value, want) in [
            (
                "[]",
                "DIR/w.toml:1:1: [plugins]: trusted_keys names no key: leave it out",
            ),
            (
                "[1]",
                "DIR/w.toml:2:17: [plugins] trusted_keys[0]: found 1, expected a string",
            ),
            (
                "[\"RWQf6L\"]",
                "DIR/w.toml:2:17: [plugins] trusted_keys[0]: \"RWQf6L\" begins as a minisign \
                 public key does, but is none",
            ),
            (
                "[\"none.pub\"]",
                "DIR/w.toml:2:17: [plugins] trusted_keys[0]: DIR/none.pub: No such file",
            ),
            (
                "[\"empty.pub\"]",
                "DIR/w.toml:2:17: [plugins] trusted_keys[0]: DIR/empty.pub: is no minisign \
                 public key",
            ),
            (
                &format!("[\"{KEY}\", \"{KEY}\"]"),
                "DIR/w.toml:2:77: [plugins] trusted_keys[1]: the key E7620F1842B4E81F stands here \
                 twice",
            ),
        ] {
            let found = errors(home.path(), &format!("[plugins]\ntrusted_keys = {value}\n"));
            let is_there = found.iter().any(|error| error.starts_with(want));
            assert!(is_there, "{value}: {found:#?}");
        }
        let text = format!(
            "[[plugin]]\nname = \"p\"\nbuiltin = \"quake-route\"\ntrusted_keys = [\"{KEY}\"]\n"
        );
        let found = errors(home.path(), &text);
        assert!(
            found[0].contains("says nothing of a builtin plugin"),
            "{found:#?}"
        );
    }
}
