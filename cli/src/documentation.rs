//! `completions` and `man`: documents that are made from the commands.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;
use clap_complete::Shell;

use crate::CliError;
use crate::error::Exit;
use crate::mounted::mounted;

/// The commands that print completions and the manual page of a program.
#[derive(Debug)]
pub struct Documentation(Box<Command>);

mounted!(Documentation(Command));

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the completions of a shell
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Command whose page is meant, such as dead redrive [default: the program]
        command: Vec<String>,
    },
}

impl Documentation {
    /// Prints a document about `program`, such as `Cli::command()`, to stdout, and returns the exit
    /// code.
    pub fn run(self, program: clap::Command) -> ExitCode {
        let mut text = Vec::new();
        match self.write(program, &mut text).and_then(|()| Ok(io::stdout().write_all(&text)?)) {
            Ok(()) => Exit::Done.into(),
            Err(error) => error.report(),
        }
    }

    fn write(self, mut program: clap::Command, out: &mut Vec<u8>) -> Result<(), CliError> {
        match *self.0 {
            Command::Completions { shell } => {
                let name = program.get_name().to_owned();
                clap_complete::generate(shell, &mut program, name, out);
            }
            Command::Man { command } => {
                program.build();
                let mut found = program;
                for name in &command {
                    let inner = found.find_subcommand(name).cloned();
                    found = inner.ok_or_else(|| {
                        CliError::Usage(format!("there is no command `{}`", command.join(" ")))
                    })?;
                }
                clap_mangen::Man::new(found).render(out)?;
            }
        }
        Ok(())
    }
}
