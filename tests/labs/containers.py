"""Databases in Docker containers, of the images that docker-compose.yml pins, started by testcontainers.

Only where ADAPTIVE_TEST_CONTAINERS is set (`make test-containers`): `make test` fetches no images.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tenacity
import yaml

VARIABLE = "ADAPTIVE_TEST_CONTAINERS"
COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
START_SECONDS = 180  # SQL Server on a slow disk took more than one minute


class Service(NamedTuple):
    """What a container of a service in docker-compose.yml needs, and the URL of its superuser."""

    port: int
    password: str
    environment: dict[str, str]
    url: str


SERVICES = {
    "postgres": Service(
        5432, "POSTGRES_PASSWORD", {}, "postgresql://postgres:{password}@{host}:{port}/postgres"
    ),
    "mongo": Service(
        27017,
        "MONGO_INITDB_ROOT_PASSWORD",
        {"MONGO_INITDB_ROOT_USERNAME": "adaptive"},
        "mongodb://adaptive:{password}@{host}:{port}/?authSource=admin&directConnection=true",
    ),
    "mssql": Service(
        1433,
        "MSSQL_SA_PASSWORD",
        {"ACCEPT_EULA": "Y", "MSSQL_PID": "Developer"},
        "mssql://sa:{password}@{host}:{port}/master?TrustServerCertificate=yes",
    ),
}


def wanted() -> bool:
    """Return whether the tests are to run on containers."""
    return bool(os.environ.get(VARIABLE))


def image(service: str) -> str:
    """Return the image that docker-compose.yml pins for a service."""
    found: str = yaml.safe_load(COMPOSE.read_text())["services"][service]["image"]
    return found


@contextmanager
def container(service: str, connect: Callable[[str], object]) -> Iterator[str]:
    """Yield the URL of a new container, once `connect` does not raise any more."""
    from testcontainers.core.container import DockerContainer

    port, password, environment, url = SERVICES[service]
    secret = f"Aa1{secrets.token_hex(12)}"  # SQL Server wants three kinds of characters
    settings = {password: secret, **environment}
    with DockerContainer(image(service), env=settings, ports=[port]) as running:
        place = {"host": running.get_container_host_ip(), "port": running.get_exposed_port(port)}
        found = url.format(password=secret, **place)
        patient = tenacity.Retrying(
            stop=tenacity.stop_after_delay(START_SECONDS), wait=tenacity.wait_fixed(1), reraise=True
        )
        patient(connect, found)
        yield found
