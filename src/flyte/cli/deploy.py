"""placeholder"""
import click
deploy = click.Group("deploy")
