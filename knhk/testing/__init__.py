"""Helpers for tests, public API: a clock that stands still, scenarios to play, the contract that every store keeps."""
