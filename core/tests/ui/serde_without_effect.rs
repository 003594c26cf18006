use composable_rust_core::Message;

#[derive(Debug, Clone, PartialEq, Message)]
enum OrderEvent {
    Added {
        #[serde(default)]
        gift: bool,
        #[serde(default = "first")]
        number: u8,
    },
    Left {
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    Json {
        #[message(json)]
        note: Option<String>,
    },
    Flat {
        #[serde(flatten)]
        note: Option<String>,
    },
    Half {
        #[serde(skip_serializing)]
        note: Option<String>,
    },
    #[serde(rename = "set")]
    Renamed,
    #[serde(skip)]
    Skipped,
}

fn main() {}
