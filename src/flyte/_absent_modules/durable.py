"""A module of Flyte's that Tarmac does not have: importing it says so."""

from flyte._absent import missing_module

raise missing_module("durable")
