//! The one table of error codes, shared by Rust and TypeScript.
//!
//! A code's number and name are never reused for something else. The TypeScript table is
//! generated from [`error_table`]; a test in `elgate-node` fails when the two differ.

/// One row of the error table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    /// Number that crosses shared memory and the binding. Never reused.
    pub number: u16,
    /// Stable name that users match on.
    pub name: &'static str,
    /// Whether trying the same operation again may succeed without anybody changing anything.
    pub retryable: bool,
    /// What to do about it, in one sentence.
    pub advice: &'static str,
}

macro_rules! error_codes {
    ($($variant:ident = $number:literal, $name:literal, retryable: $retryable:literal, $advice:literal;)*) => {
        /// A stable error code. `ERR_ELGATE_...` in text, a small number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $advice] $variant = $number,)*
        }

        const TABLE: &[ErrorRow] = &[
            $(ErrorRow { number: $number, name: $name, retryable: $retryable, advice: $advice },)*
        ];

        impl ErrorCode {
            /// The code with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// This code's row of the table.
            #[must_use]
            pub const fn row(self) -> &'static ErrorRow {
                match self {
                    $(Self::$variant => &ErrorRow {
                        number: $number, name: $name, retryable: $retryable, advice: $advice,
                    },)*
                }
            }
        }
    };
}

error_codes! {
    ConfigInvalid = 1, "ERR_ELGATE_CONFIG_INVALID", retryable: false,
        "Correct the setting that the message names.";
    RouteUnknown = 2, "ERR_ELGATE_ROUTE_UNKNOWN", retryable: false,
        "Add the route to the configuration, or correct its name; `elgate routes` lists those that exist.";
    RouteNameInvalid = 3, "ERR_ELGATE_ROUTE_NAME_INVALID", retryable: false,
        "Use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit.";
    PayloadTooLarge = 4, "ERR_ELGATE_PAYLOAD_TOO_LARGE", retryable: false,
        "Split the payload: one record holds at most 1,000,000 bytes.";
    Backpressure = 5, "ERR_ELGATE_BACKPRESSURE", retryable: true,
        "The ring is full: await drained(), or slow down.";
    DaemonUnavailable = 6, "ERR_ELGATE_DAEMON_UNAVAILABLE", retryable: true,
        "Start the daemon with `npx elgate serve`, or name its ring with --ring or ELGATE_RING.";
    RingIncompatible = 7, "ERR_ELGATE_RING_INCOMPATIBLE", retryable: false,
        "Stop every process that uses the ring, delete the ring file, and start the daemon again.";
    RingCorrupt = 8, "ERR_ELGATE_RING_CORRUPT", retryable: true,
        "A process wrote nonsense into the ring; reconnect, and find the program that did it.";
    SlotCorrupt = 9, "ERR_ELGATE_SLOT_CORRUPT", retryable: false,
        "The operation did not survive validation and was not taken; send it again from intact memory.";
    TooManyProducers = 10, "ERR_ELGATE_TOO_MANY_PRODUCERS", retryable: true,
        "Close unused connections: one ring serves a limited number of producers.";
    InUse = 11, "ERR_ELGATE_IN_USE", retryable: false,
        "Another Elgate holds it: stop that process, or choose another data directory or ring.";
    LogUnavailable = 12, "ERR_ELGATE_LOG_UNAVAILABLE", retryable: true,
        "The route's log cannot be written; free disk space or repair the device, and it resumes by itself.";
    LogCorrupt = 13, "ERR_ELGATE_LOG_CORRUPT", retryable: false,
        "Acknowledged data is damaged; what is readable is served, the rest is named in the quarantine folder.";
    PermissionDenied = 14, "ERR_ELGATE_PERMISSION_DENIED", retryable: false,
        "Give this user the permission that the message names, or choose another path.";
    Closed = 15, "ERR_ELGATE_CLOSED", retryable: false,
        "This handle was closed; open a new one.";
    Timeout = 16, "ERR_ELGATE_TIMEOUT", retryable: true,
        "The outcome is unknown: the operation may still be carried out. Look it up before sending it again.";
    DeliveryRefused = 17, "ERR_ELGATE_DELIVERY_REFUSED", retryable: false,
        "The far end refused the record for good; see the route's status for its last answer.";
    PathOutsideRoot = 18, "ERR_ELGATE_PATH_OUTSIDE_ROOT", retryable: false,
        "Name a path below the sink root; links and '..' that leave it are refused.";
    Io = 19, "ERR_ELGATE_IO", retryable: true,
        "The operating system refused the operation that the message names.";
    Unsupported = 20, "ERR_ELGATE_UNSUPPORTED", retryable: false,
        "Use the alternative that the message names.";
    Internal = 21, "ERR_ELGATE_INTERNAL", retryable: false,
        "This is a defect in Elgate: please report it with the message.";
    RoutePaused = 22, "ERR_ELGATE_ROUTE_PAUSED", retryable: true,
        "Resume the route with `elgate routes resume`.";
    AddressInUse = 23, "ERR_ELGATE_ADDRESS_IN_USE", retryable: false,
        "Choose another address with --admin, or stop the process that listens there.";
    Usage = 24, "ERR_ELGATE_USAGE", retryable: false,
        "See `elgate help`.";
    FarEndUnavailable = 25, "ERR_ELGATE_FAR_END_UNAVAILABLE", retryable: true,
        "Check that the route's destination runs and can be reached; the records wait in the log and are tried again.";
}

/// Every code, in order of number.
#[must_use]
pub const fn error_table() -> &'static [ErrorRow] {
    TABLE
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.row().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_names_are_unique() {
        let table = error_table();
        assert!(table.windows(2).all(|pair| pair[0].number < pair[1].number));
        for row in table {
            assert_eq!(ErrorCode::from_number(row.number).expect("known").row(), row);
            assert_eq!(table.iter().filter(|other| other.name == row.name).count(), 1);
            assert!(row.name.starts_with("ERR_ELGATE_") && row.advice.ends_with('.'));
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }
}
