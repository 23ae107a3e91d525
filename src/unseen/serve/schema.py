"""What the API says, for its OpenAPI description: shapes, meanings and examples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "FILE_BODY",
    "Capacity",
    "Ceilings",
    "Health",
    "InspectionOut",
    "Problem",
    "VerdictOut",
    "problems",
]

ID = "3f0c5c1c9a0e4f7f8b1d2a6e5c4b3a29"
WHEN = "2026-01-31T12:00:00Z"
Reason = Literal[
    "bad_request", "broken_multipart", "token", "origin", "host", "unknown", "not_finished", "slow",
    "too_large", "content_type", "no_file", "several_files", "unknown_field", "rate", "busy", "disk",
    "method", "internal",
]  # fmt: skip


class Problem(BaseModel):
    """Why a request was not carried out."""

    reason: Reason = Field(description="A stable code for programs.")
    message: str = Field(description="A sentence for people; may change.")


class PersonOut(BaseModel):
    """One person through the file."""

    model_config = ConfigDict(extra="allow")
    id: int
    verdict: str
    probability: float | None = Field(description="Calibrated probability of fake.")
    frames: list[dict[str, Any]] = Field(
        description="Each face looked at: time, box, score, or why it was left out."
    )


class VerdictOut(BaseModel):
    """What was found, the same as `unseen detect --json` prints; further fields are described there."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "file": "portrait.jpg",
                "verdict": "real",
                "reason": "below_threshold",
                "probability": 0.12,
                "threshold": 0.87,
                "people": [{"id": 1, "verdict": "real", "probability": 0.12, "frames": []}],
                "warnings": [],
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "model": "default",
            }
        },
    )
    file: str = Field(description="The name it came under, made safe to show; never a path on the server.")
    verdict: Literal["real", "fake", "inconclusive", "not_applicable", "error"]
    reason: str = Field(
        description="A stable code; `timeout` and `crashed` where the worker was stopped or broke down."
    )
    probability: float | None = Field(
        description="Of fake, calibrated, of the most suspicious person; null without one."
    )
    threshold: float | None = Field(description="From here on a person counts as fake.")
    people: list[PersonOut]
    warnings: list[str]
    sha256: str | None
    model: str | None


class InspectionOut(BaseModel):
    """One file on its way to a verdict, or with one."""

    id: str = Field(pattern="^[0-9a-f]{32}$", examples=[ID])
    status: Literal["queued", "running", "done", "failed"] = Field(
        description="`done` and `failed` are final and carry a `verdict`. `failed`: the worker was killed at "
        "the time limit or broke down, and the verdict is an `error` that says so. An unreadable file is "
        "`done`."
    )
    file: str = Field(description="The name it came under, made safe to show.", examples=["portrait.jpg"])
    bytes: int
    sha256: str
    ahead: int = Field(description="Files that will be examined before this one.")
    created: str = Field(examples=[WHEN])
    started: str | None = None
    finished: str | None = None
    expires: str | None = Field(
        default=None, description="When a finished result is forgotten, at the latest."
    )
    report: str | None = Field(default=None, description="Where the report is, once it is.")
    verdict: VerdictOut | None = None


class Ceilings(BaseModel):
    """What one file may have."""

    bytes: int
    pixels: int = Field(description="Of one frame.")
    seconds: float = Field(description="Of a video.")
    examination_seconds: float = Field(description="Before its examination is stopped.")
    uploads_per_minute: int = Field(description="From one client; 0 for no limit.")


class Capacity(BaseModel):
    """How busy the server is."""

    workers: int
    running: int
    queued: int
    places: int = Field(description="Files that may wait.")


class Health(BaseModel):
    """That the server lives, and what it takes."""

    status: Literal["ok"]
    version: str
    model: str
    token_required: bool
    keep_seconds: float = Field(description="How long a result stays.")
    capacity: Capacity
    limits: Ceilings


FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "A picture or a video; its content tells which, never its name.",
                        }
                    },
                }
            }
        },
    }
}

WORDS = {
    400: "The request cannot be read.",
    401: "A token is required, and none or a wrong one was given.",
    403: "The request comes from another site, or under a host name that is not this server's.",
    404: "There is no such inspection: it never was, was deleted, or has expired.",
    405: "This path does not know this method.",
    408: "The upload took too long.",
    409: "It is not finished yet.",
    413: "The file is larger than the limit.",
    415: "The body is not multipart/form-data.",
    422: "The body holds no file, several, or an unknown field.",
    429: "Too many requests from this client; see `Retry-After`.",
    503: "The queue is full; see `Retry-After`.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path, for its description."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"model": Problem, "description": WORDS[status]}
        if status in (409, 429, 503):
            described[status]["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
        if status == 401:
            described[status]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return described
