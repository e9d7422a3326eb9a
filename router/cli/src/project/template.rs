//! Templates, embedded by `build.rs`, and what they become for a name and a role.
//!
//! In the names and the text of their files `{{name}}`, `{{snake_name}}`, `{{role}}` and `{{sdk}}`
//! are replaced. A file whose name ends in `@filter` or `@filter+route` is there for these roles
//! only, and without that ending.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use waypost_host::Role;

/// The files of a language.
#[derive(Debug)]
pub struct Template {
    /// As `--lang` has it: the name of its folder.
    pub language: &'static str,
    files: &'static [File],
}

#[derive(Debug)]
struct File {
    path: &'static str,
    executable: bool,
    bytes: &'static [u8],
}

static TEMPLATES: &[Template] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Other names that people have for them.
const ALIASES: [(&str, &str); 5] = [
    ("rs", "rust"),
    ("golang", "go"),
    ("javascript", "js"),
    ("typescript", "ts"),
    ("py", "python"),
];

/// What a template is made into.
#[derive(Debug)]
pub struct Filling<'a> {
    /// A [plugin name](super::manifest::is_plugin_name).
    pub name: &'a str,
    /// Its role.
    pub role: Role,
    /// A folder with the SDK; without it, the project gets one of its own.
    pub sdk: Option<&'a str>,
}

impl Template {
    /// All of them, by language.
    pub fn all() -> &'static [Template] {
        TEMPLATES
    }

    /// The template of a language.
    pub fn of(language: &str) -> Option<&'static Template> {
        let is_it = |t: &&Template| t.language == language || t.aliases().any(|a| a == language);
        TEMPLATES.iter().find(is_it)
    }

    /// Other names of its language.
    pub fn aliases(&self) -> impl Iterator<Item = &'static str> {
        let own = ALIASES.iter().filter(|(_, name)| *name == self.language);
        own.map(|(alias, _)| *alias)
    }

    /// The roles that it has files for.
    pub fn roles(&self) -> Vec<Role> {
        let named: Vec<&str> = self
            .files
            .iter()
            .filter_map(|file| file.path.rsplit_once('@'))
            .flat_map(|(_, roles)| roles.split('+'))
            .collect();
        let has = |role: &Role| named.is_empty() || named.contains(&role.name());
        Role::ALL.into_iter().filter(has).collect()
    }

    /// Whether a folder with the SDK can be given.
    pub fn takes_sdk(&self) -> bool {
        self.files
            .iter()
            .any(|file| std::str::from_utf8(file.bytes).is_ok_and(|text| text.contains("{{sdk}}")))
    }

    /// Writes the files into `dir`; gives their paths in it.
    pub fn write(&self, dir: &Path, filling: &Filling<'_>) -> anyhow::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for file in self.files {
            let Some(path) = filling.path(file.path) else {
                continue;
            };
            let to = dir.join(&path);
            write(&to, file, filling).with_context(|| to.display().to_string())?;
            written.push(path.into());
        }
        Ok(written)
    }
}

/// Where a project keeps an SDK of its own.
const VENDOR: &str = "vendor/";

impl Filling<'_> {
    /// Where a file goes, if it is for this role.
    fn path(&self, path: &str) -> Option<String> {
        let path = match path.rsplit_once('@') {
            Some((path, roles)) if roles.split('+').any(|role| role == self.role.name()) => path,
            Some(_) => return None,
            None => path,
        };
        (self.sdk.is_none() || !path.starts_with(VENDOR)).then(|| self.fill(path))
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{{name}}", self.name)
            .replace("{{snake_name}}", &self.name.replace('-', "_"))
            .replace("{{role}}", self.role.name())
            .replace("{{sdk}}", self.sdk.unwrap_or("vendor/waypost-plugin"))
    }
}

fn write(to: &Path, file: &File, filling: &Filling<'_>) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    match std::str::from_utf8(file.bytes) {
        Ok(text) => fs::write(to, filling.fill(text))?,
        Err(_) => fs::write(to, file.bytes)?,
    }
    if file.executable {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::{MANIFEST, Project};

    const FILLING: Filling<'static> = Filling {
        name: "quake-watch",
        role: Role::Route,
        sdk: None,
    };

    #[test]
    fn names_and_roles_are_filled_in() {
        assert_eq!(
            FILLING.path("src/{{snake_name}}.c").as_deref(),
            Some("src/quake_watch.c")
        );
        assert_eq!(FILLING.path("a.rs@filter+route").as_deref(), Some("a.rs"));
        assert_eq!(FILLING.path("a.rs@filter"), None);
        assert_eq!(
            FILLING.fill("{{name}} {{role}} {{ other }} {x}"),
            "quake-watch route {{ other }} {x}"
        );
        let own = Filling {
            sdk: Some("/sdk"),
            ..FILLING
        };
        assert_eq!(
            (own.path("vendor/x"), own.path("src/x")),
            (None, Some("src/x".into()))
        );
    }

    /// Each template, for each of its roles: a project whose manifest is right and which brings the
    /// contract, tests, and no placeholder.
    #[test]
    fn every_template_gives_a_project() {
        assert!(Template::of("rs").is_some_and(|template| template.language == "rust"));
        for template in TEMPLATES {
            for role in template.roles() {
                let about = format!("{}, {role}", template.language);
                let dir = tempfile::tempdir().unwrap();
                let filling = Filling { role, ..FILLING };
                let files = template.write(dir.path(), &filling).expect(&about);
                let project = Project::open(Some(dir.path())).expect(&about);
                assert_eq!(project.manifest.name, "quake-watch", "{about}");
                assert_eq!(project.manifest.role, role, "{about}");
                let has = |file: &str| files.iter().any(|path| path == Path::new(file));
                assert!(has(MANIFEST) && has("wit/plugin.wit"), "{about}: {files:?}");
                let is_test = |path: &PathBuf| path.to_string_lossy().ends_with(".expect.jsonl");
                assert!(files.iter().any(is_test), "{about}: no tests");
                for file in &files {
                    let text = fs::read(dir.path().join(file)).unwrap();
                    let text = String::from_utf8_lossy(&text);
                    for placeholder in ["{{name}}", "{{snake_name}}", "{{role}}", "{{sdk}}"] {
                        assert!(!text.contains(placeholder), "{about}: {file:?}");
                    }
                }
            }
        }
    }
}
