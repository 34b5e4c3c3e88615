"""What a reference and its sites cost with the user's own rates, against transcription in the cloud by the hour."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from lwasr_edge.errors import OptionError
from lwasr_edge.validate import number, whole_number

HOURS_PER_YEAR = 24 * 365


@dataclass(frozen=True)
class Rates:
    """Rates and amounts; all money is in one currency."""

    rate_cpu_hour: float  # of the machine that trains
    rate_cloud_hour: float  # of an hour of audio that is transcribed in the cloud
    rate_person_hour: float = 0.0
    rate_kwh: float = 0.0
    sites: int = 1
    devices: int = 1  # of all sites together
    audio_hours_per_day: float = 1.0  # of speech, for each device
    days_per_year: float = 365.0
    site_minutes: float = 15.0  # of recordings, for each site
    site_epochs: float = 20.0  # of the adaptation
    person_hours: float = 3.0  # for each site
    device_price: float = 0.0
    device_years: float = 5.0
    device_watts: float = 4.0  # always on

    def __post_init__(self) -> None:
        for one in fields(self):
            value, name = getattr(self, one.name), f"--{one.name.replace('_', '-')}"
            if one.name in ("sites", "devices"):
                whole_number(name, value, 0)
            else:
                number(name, value, 0.0, 1e12)
        number("--days-per-year", self.days_per_year, 0, 366)
        number("--audio-hours-per-day", self.audio_hours_per_day, 0, 24)
        number("--device-years", self.device_years, above=0)


@dataclass(frozen=True)
class Item:
    """A line of the table."""

    what: str
    machine_hours: float = 0.0
    once: float = 0.0
    yearly: float = 0.0


def items(reference_h: float, family_h: float, audio_s_per_s: float, rates: Rates) -> list[Item]:
    """The costs of the models and devices.

    Args:
        reference_h, family_h: hours of training on this machine.
        audio_s_per_s: seconds of audio in a second of training of the student that is adapted.
        rates: of the user.
    """
    site_h = rates.sites * rates.site_minutes * rates.site_epochs / (60 * audio_s_per_s)
    people = rates.sites * rates.person_hours
    kwh = rates.devices * rates.device_watts / 1000 * HOURS_PER_YEAR
    return [
        Item("reference, once", reference_h, reference_h * rates.rate_cpu_hour),
        Item("family of students, once", family_h, family_h * rates.rate_cpu_hour),
        Item(f"adaptation to {rates.sites} sites", site_h, site_h * rates.rate_cpu_hour),
        Item(f"people, {people:g} hours at the sites", once=people * rates.rate_person_hour),
        Item(
            f"{rates.devices} devices over {rates.device_years:g} years",
            yearly=rates.devices * rates.device_price / rates.device_years,
        ),
        Item(f"electricity, {kwh:.0f} kWh a year", yearly=kwh * rates.rate_kwh),
    ]


def audio_hours(rates: Rates) -> float:
    """Hours of speech in a year."""
    return rates.devices * rates.audio_hours_per_day * rates.days_per_year


def money_table(found: list[Item], rates: Rates) -> str:
    """The costs, those of the cloud, when they are equal, and what was assumed."""
    once, yearly = sum(one.once for one in found), sum(one.yearly for one in found)
    hours = audio_hours(rates)
    cloud = hours * rates.rate_cloud_hour
    rows = [*found, Item("on the devices, together", sum(one.machine_hours for one in found), once, yearly)]
    rows.append(Item(f"in the cloud, {hours:.0f} hours of audio a year", yearly=cloud))
    lines = [f"{'what':46} {'machine-h':>10} {'once':>12} {'each year':>12}"]
    lines += [f"{one.what:46} {one.machine_hours:10.1f} {one.once:12.2f} {one.yearly:12.2f}" for one in rows]
    lines.append(_comparison(once, yearly, cloud, hours))
    zero = [f"--{one.name.replace('_', '-')}" for one in fields(rates) if getattr(rates, one.name) == 0]
    lines.append(
        f"assumed: {rates.audio_hours_per_day:g} h of speech a day on each device, {rates.days_per_year:g} days a "
        f"year; {rates.site_minutes:g} minutes of recordings a site, {rates.site_epochs:g} epochs; devices of "
        f"{rates.device_watts:g} W, always on; no interest, no maintenance, no network"
        + (f"; at 0: {', '.join(zero)}" if zero else "")
    )
    return "\n".join(lines)


def _comparison(once: float, yearly: float, cloud: float, hours: float) -> str:
    if cloud <= yearly:
        return "at these rates the cloud costs less each year than the devices do: they never save money"
    three = (once + 3 * yearly) / max(3 * hours, 1e-9)
    days = once / (cloud - yearly) * 365
    return (
        f"the devices cost less than the cloud after {days:.0f} days; over three years an hour of audio costs "
        f"{three:.4f}, in the cloud {cloud / hours:.4f}"
    )


OPTIONS = {
    "rate_cpu_hour": "price of an hour of this machine",
    "rate_cloud_hour": "price of an hour of audio in the cloud; prints the table of money",
    "rate_person_hour": "price of an hour of work",
    "rate_kwh": "price of a kWh",
    "sites": "places with a model of their own",
    "devices": "of all sites together",
    "audio_hours_per_day": "hours of speech on each device",
    "days_per_year": "with speech",
    "site_minutes": "minutes of recordings of each site",
    "site_epochs": "epochs of each adaptation",
    "person_hours": "hours of work at each site",
    "device_price": "price of a device",
    "device_years": "years that a device is used",
    "device_watts": "power of a device",
}


def add_money_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the rates."""
    group = parser.add_argument_group(
        "money", "in any currency; --rate-cloud-hour and --rate-cpu-hour are needed for it"
    )
    defaults = {one.name: one.default for one in fields(Rates)}
    for name, text in OPTIONS.items():
        is_needed = name in ("rate_cpu_hour", "rate_cloud_hour")
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=int if name in ("sites", "devices") else float,
            default=None if is_needed else defaults[name],
            metavar="X",
            help=text if is_needed else f"{text} (default: {defaults[name]:g})",
        )


def rates_from_args(args: argparse.Namespace) -> Rates | None:
    """The rates; None if none of both that are needed is given.

    Raises:
        OptionError: one of both is missing, or a value is impossible.
    """
    given = {name: getattr(args, name) for name in OPTIONS}
    needed = [given["rate_cpu_hour"], given["rate_cloud_hour"]]
    if needed == [None, None]:
        return None
    if None in needed:
        raise OptionError("--rate-cpu-hour and --rate-cloud-hour must be given together, got one: add the other")
    return Rates(**given)
