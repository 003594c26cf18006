//! Output that users' programs and scripts rely on.

use clap::{CommandFactory as _, Parser};
use composable_rust_cli::{Documentation, Operations, StoreOperations};

#[derive(Debug, Parser)]
#[command(name = "shop")]
enum Cli {
    /// Run the service
    Serve,
    #[command(flatten)]
    Operations(Operations),
    #[command(flatten)]
    Store(StoreOperations),
    #[command(flatten)]
    Documentation(Documentation),
}

#[test]
fn the_commands_are_consistent_in_a_program_of_their_own() {
    Cli::command().debug_assert();
    assert!(matches!(Cli::parse_from(["shop", "serve"]), Cli::Serve));
}

/// Every option of every command, so that none is renamed by accident.
#[test]
fn the_usage_of_every_command() {
    fn usages(command: &mut clap::Command, found: &mut String) {
        if command.get_subcommands().next().is_none() {
            found.push_str(&command.render_usage().to_string());
            found.push('\n');
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let id = arg.get_long().unwrap_or_default();
                for part in ["    --", id, "\n"] {
                    found.push_str(part);
                }
            }
        }
        for inner in command.get_subcommands_mut() {
            usages(inner, found);
        }
    }
    let (mut command, mut found) = (Cli::command(), String::new());
    command.build();
    usages(&mut command, &mut found);
    insta::assert_snapshot!(found);
}
