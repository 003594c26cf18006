//! Converts a command's exit status into the exit code of this process.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

/// Returns the command's exit code; as in shells, 128 plus the signal number if a signal ended the
/// command.
pub(crate) fn from_status(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_signals_are_converted() {
        let code = |raw| format!("{:?}", from_status(ExitStatus::from_raw(raw)));
        assert_eq!(code(0), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(101 << 8), format!("{:?}", ExitCode::from(101)));
        assert_eq!(code(15), format!("{:?}", ExitCode::from(143)));
    }
}
