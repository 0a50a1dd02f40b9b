"""Environments: what an Image becomes on this machine. A Python and packages in a folder, made by uv.

`interpreters` finds the Pythons, `resolve` turns requirements into exact versions, `build` is the program that makes an
environment of them, and `place` says where everything lies. The agent starts that program (`tarmac.agent.images`); the
control plane decides who needs an environment and records what was made (`tarmac.control.images`).
"""
