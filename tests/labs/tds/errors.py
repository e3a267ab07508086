"""SQL Server's errors: number, severity, state and text, and what each does to batch and transaction."""

from __future__ import annotations

# Texts as `sys.messages` has them, with names for the places; the severity where it is not 16.
MESSAGES: dict[int, tuple[str, int]] = {
    102: ("Incorrect syntax near '{near}'.", 15),
    137: ('Must declare the scalar variable "{name}".', 15),
    207: ("Invalid column name '{name}'.", 16),
    208: ("Invalid object name '{name}'.", 16),
    220: ("Arithmetic overflow error for data type {type}, value = {value}.", 16),
    229: ("The {right} permission was denied on the object '{name}', database '{database}', "
          "schema '{schema}'.", 14),
    241: ("Conversion failed when converting date and/or time from character string.", 16),
    245: ("Conversion failed when converting the {source} value '{value}' to data type {type}.", 16),
    248: ("The conversion of the {source} value '{value}' overflowed an {type} column.", 16),
    257: ("Implicit conversion from data type {source} to {type} is not allowed. "
          "Use the CONVERT function to run this query.", 16),
    262: ("{right} permission denied in database '{database}'.", 14),
    515: ("Cannot insert the value NULL into column '{column}', table '{table}'; "
          "column does not allow nulls. {verb} fails.", 16),
    544: ("Cannot insert explicit value for identity column in table '{table}' when IDENTITY_INSERT "
          "is set to OFF.", 16),
    547: ("The {verb} statement conflicted with the {kind} constraint \"{name}\". "
          "The conflict occurred in database \"{database}\", table \"{table}\"{column}.", 16),
    911: ("Database '{name}' does not exist. Make sure that the name is entered correctly.", 16),
    1088: ('Cannot find the object "{name}" because it does not exist or you do not have permissions.', 16),
    1205: ("Transaction (Process ID {process}) was deadlocked on lock resources with another process and has "
           "been chosen as the deadlock victim. Rerun the transaction.", 13),
    1222: ("Lock request time out period exceeded.", 16),
    2601: ("Cannot insert duplicate key row in object '{table}' with unique index '{name}'. "
           "The duplicate key value is ({value}).", 14),
    2627: ("Violation of {kind} constraint '{name}'. Cannot insert duplicate key in object '{table}'. "
           "The duplicate key value is ({value}).", 14),
    2628: ("String or binary data would be truncated in table '{table}', column '{column}'. "
           "Truncated value: '{value}'.", 16),
    2714: ("There is already an object named '{name}' in the database.", 16),
    2760: ('The specified schema name "{name}" either does not exist or you do not have permission '
           'to use it.', 16),
    2812: ("Could not find stored procedure '{name}'.", 16),
    3701: ("Cannot drop the table '{name}', because it does not exist or you do not have permission.", 11),
    3902: ("The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.", 16),
    3903: ("The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.", 16),
    3930: ("The current transaction cannot be committed and cannot support operations that write to the log "
           "file. Roll back the transaction.", 16),
    3931: ("The current transaction cannot be committed and cannot be rolled back to a savepoint. "
           "Roll back the entire transaction.", 16),
    3998: ("Uncommittable transaction is detected at the end of the batch. "
           "The transaction is rolled back.", 16),
    4804: ("While reading current row from host, a premature end-of-message was encountered--an incoming "
           "data stream was interrupted when the server expected to see more data.", 16),
    4816: ("Invalid column type from bcp client for colid {column}.", 16),
    4060: ('Cannot open database "{name}" requested by the login. The login failed.', 11),
    6401: ("Cannot roll back {name}. No transaction or savepoint of that name was found.", 16),
    7339: ("OLE DB provider 'STREAM' for linked server '(null)' returned invalid data for column "
           "'[!BulkInsert].{column}'.", 16),
    8114: ("Error converting data type {source} to {type}.", 16),
    8115: ("Arithmetic overflow error converting {source} to data type {type}.", 16),
    8152: ("String or binary data would be truncated.", 16),
    8169: ("Conversion failed when converting from a character string to uniqueidentifier.", 16),
    8179: ("Could not find prepared statement with handle {handle}.", 16),
    15023: ("User, group, or role '{name}' already exists in the current database.", 16),
    15025: ("The server principal '{name}' already exists.", 16),
    15151: ("Cannot find the {kind} '{name}', because it does not exist or you do not have permission.", 16),
    15247: ("User does not have permission to perform this action.", 16),
    18456: ("Login failed for user '{name}'.", 14),
    49999: ("The stand-in for SQL Server does not know: {statement}", 16),
}  # fmt: skip
STATES = {515: 2, 245: 1, 547: 0, 1205: 51, 8115: 2, 8114: 5, 1222: 51, 18456: 1}
# Errors that end the batch and roll its transaction back, whatever XACT_ABORT says.
ROLL_BACK = {241, 245, 248, 8114, 8169, 1205}
# Errors that end the batch but leave the transaction as it is, found before a statement runs.
COMPILE = {102, 137, 207, 208, 2812, 49999}


class Places(dict[str, object]):
    """What an error's text names; a question mark where nothing is said, as with an error on request."""

    def __missing__(self, name: str) -> str:
        return "?"


class SqlError(Exception):
    """An error as the client is to see it."""

    def __init__(
        self, number: int, text: str = "", *, severity: int = 16, state: int = 1, **places: object
    ) -> None:
        form, known = MESSAGES.get(number, ("", severity))
        super().__init__(text or form.format_map(Places(places)) or f"error {number}")
        self.number, self.severity, self.state = (
            number,
            severity if text else known,
            STATES.get(number, state),
        )
        self.column = ""  # where a value was refused


def unknown(statement: object) -> SqlError:
    """Return the error for what the stand-in cannot do; it quotes the statement."""
    return SqlError(49999, statement=" ".join(str(statement).split())[:800])
