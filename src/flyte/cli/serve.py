"""placeholder"""
import click
serve = click.Group("serve")
