"""What a call raises when it fails. A miss of lookup, load or fetch_piece is part of the result."""


class RepriseError(Exception):
    """A call failed. `code` is the status code's name, for example "UNAVAILABLE"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidArgumentError(RepriseError, ValueError):
    """The caller's input is wrong."""


class ResourceExhaustedError(RepriseError):
    """A budget or limit is reached; later may work."""


class DeadlineExceededError(RepriseError, TimeoutError):
    """The deadline passed."""


class CancelledError(RepriseError):
    """The operation was cancelled, or its client closed."""


class UnavailableError(RepriseError, ConnectionError):
    """The store is gone or cannot be reached."""


class PermissionDeniedError(RepriseError, PermissionError):
    """The tenant or its credential is wrong."""


class DataLossError(RepriseError):
    """Bytes do not match their checksum, content id or key."""


class UnimplementedError(RepriseError):
    """A version, codec or method that this build does not know."""


_BY_CODE: dict[str, type[RepriseError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "CANCELLED": CancelledError,
    "UNAVAILABLE": UnavailableError,
    "UNAUTHENTICATED": PermissionDeniedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "DATA_LOSS": DataLossError,
    "UNIMPLEMENTED": UnimplementedError,
}


def from_status(code: str, message: str) -> RepriseError:
    """The exception for a status; the extension module raises it."""
    return _BY_CODE.get(code, RepriseError)(code, message)
