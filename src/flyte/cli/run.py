"""placeholder"""
import click
run = click.Group("run")
