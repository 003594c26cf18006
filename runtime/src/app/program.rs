//! The program of a process, as operators see it.

use composable_rust_core::queue::Process;
use uuid::Uuid;

/// The longest name or version that is stored, in bytes.
const MAX_BYTES: usize = 200;

/// The name and version of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Default for Program {
    fn default() -> Self {
        let executable = std::env::current_exe().ok();
        let name = executable.as_deref().and_then(|path| path.file_stem());
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, version: String::new() }
    }
}

impl Program {
    /// Returns this process, which holds leases as `holder`.
    pub(crate) fn process(&self, holder: Uuid) -> Process {
        Process {
            holder,
            program: short(&self.name),
            version: short(&self.version),
            host: short(&host()),
            pid: std::process::id(),
        }
    }
}

/// Returns the name of the machine: of the pod or container where there is one.
fn host() -> String {
    let variable = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    variable.or_else(file).map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn short(text: &str) -> String {
    let end = (0..=text.len().min(MAX_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    // Every text has a boundary at 0. PostgreSQL stores no zero bytes.
    text[..end.unwrap_or(0)].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_a_character() {
        let program = Program { name: "ä".repeat(150), version: "1\0.2".to_owned() };
        let process = program.process(Uuid::nil());
        assert_eq!((process.program.len(), &*process.version), (200, "1.2"));
        assert!(!Program::default().name.is_empty());
    }
}
