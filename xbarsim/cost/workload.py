"""What one inference costs: the actions that a network takes, their energy, and the time of a pipeline.

Peak numbers (:class:`xbarsim.cost.CostReport`) hold with everything busy, as component tables are quoted. Here every
component works only as much as the network asks of it.

The model
---------
For a layer with V input vectors an image, p reads for each vector (planes times passes times the a groups of rows that
the design drives one after the other), s times that on hardware that reads few rows at once, a read time t, c copies
and redundancy n:

- reads of its arrays ``V p s arrays n``; conversions ``V p s conversions n``; elements of outputs ``V outputs``;
- bits at word lines ``V p / a driven_rows dac_bits n``; bits to and from buffers ``V (inputs + outputs) input_bits``
  (each window is read anew, each output written once); bits over the network ``V outputs input_bits``.

Energy: an ADC takes its energy per conversion; what is busy while its array is read takes its power for ``V p s t``, in
proportion to the rows, columns or cells in use (of rows and cells, 1 / a at a time); the cells of a die take
``cells_power V p t n``; what moves or combines data takes ``actions power / rate``. Copies share the vectors and change
no action. What is always on draws its power for the whole interval between two images.

Time: layer l takes ``T_l = ceil(V / c) p s t`` and its result arrives after ``d_l = stages_after_read t`` more. Layers
work on successive images at once, each starting an image when the one before has finished it, so the latency of an
image is ``sum(T_l + d_l)`` and the interval between images the longest of all ``T_l`` and of the times that shared
components of finite rate are busy with one image, ``actions / (count rate)``. Without this pipelining the interval is
the latency. V need not be whole where it is a mean over images: energies are means too, times take the next whole
number of vectors, which an image that needs the layer waits for. Layers are taken one after the other, also those that
a network runs side by side, and a layer waits for the whole map before it: the latency is an upper bound for chips that
stream maps row by row.

Where idle reads are skipped, reads, conversions and bits at word lines are those that the inputs ask for, by the shares
of :class:`xbarsim.cost.Activity`: what is busy in proportion to the rows or cells in use takes its power for those that
are driven (cells of a die, whose mean power knows their inputs, as before), columns for those that are converted, and
``T_l`` is as much shorter as there are fewer steps. What finds the idle reads looks at all of them.

Digital operations take their number times the price of their kind, where the card has one; they take no time here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from xbarsim.cost.digital import OPERATIONS, added
from xbarsim.cost.hardware import Component, Hardware
from xbarsim.cost.peak import Peak
from xbarsim.cost.replication import replicate
from xbarsim.cost.use import LayerUse
from xbarsim.cost.views import count, frame, html_tree, number, percent
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer

__all__ = ["Actions", "ComponentEnergy", "LayerWork", "Workload", "run_workload"]

#: How often layers are copied: once, or so that they fill whole chips.
Replication = Literal["none", "chip"]


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What one layer does for one image; see the module for the formulas.

    Attributes
    ----------
    read
        Reads of an array, over all arrays of the layer.
    conversion
        Conversions.
    output
        Elements of outputs.
    input_bit, buffer_bit, network_bit
        Bits applied at word lines, moved to and from buffers, and moved over the network.

    Notes
    -----
    Whole numbers, unless the vectors of an image are a mean that is not, or idle reads are skipped.
    """

    read: float
    conversion: float
    output: float
    input_bit: float
    buffer_bit: float
    network_bit: float

    @classmethod
    def of(cls, use: LayerUse, hardware: Hardware) -> Actions:
        """The actions of a layer on the hardware of a card."""
        if use.arrays == 0:  # packing left nothing of it: its outputs are known beforehand
            return cls(read=0, conversion=0, output=0, input_bit=0, buffer_bit=0, network_bit=0)
        vectors, reads = use.vectors_per_image, use.reads_per_vector
        every = vectors * hardware.reads_of_vector(use) * use.redundancy
        inputs, outputs = use.counted("inputs"), use.counted("outputs")
        return cls(
            read=every * use.arrays * use.share("reads"),
            conversion=every * use.counted("conversions") * use.share("conversions"),
            output=vectors * outputs,
            input_bit=vectors
            * (reads // use.row_groups)
            * use.redundancy
            * use.counted("driven_rows")
            * use.dac_bits
            * use.share("drives"),
            buffer_bit=vectors * (inputs + outputs) * use.input_bits,
            network_bit=vectors * outputs * use.input_bits,
        )


@dataclass(frozen=True, kw_only=True)
class ComponentEnergy:
    """Energy of all of one component for one image, J."""

    level: str
    name: str
    energy: float


@dataclass(frozen=True, kw_only=True)
class LayerWork:
    """One layer at work on one image.

    Attributes
    ----------
    use
        What it uses, with its copies.
    actions
        What it does.
    time
        How long its arrays are read, s.
    delay
        From the last read to the result in the next buffer, s.
    components
        Energy of what works for it, J; what is always on is not among them.
    """

    use: LayerUse
    actions: Actions
    time: float
    delay: float
    components: tuple[ComponentEnergy, ...]

    @property
    def energy(self) -> float:
        """Energy of all that works for the layer, J."""
        return math.fsum(cost.energy for cost in self.components)


# What of a layer's activity says how much of what there is for each of these is busy.
_ACTIVE = {"parent": "reads", "row": "drives", "column": "conversions", "cell": "drives", "index_bit": "reads"}


def _read_energy(component: Component, use: LayerUse, hardware: Hardware) -> float:
    """Energy of a component of the array level that is busy while arrays are read, J."""
    if use.arrays == 0:
        return 0.0
    read_time = hardware.time_of_read(use)
    vectors = use.vectors_per_image * use.redundancy
    if component.role == "cells" and use.cells_power is not None:
        # a mean over the reads of the design; hardware that takes more has each row conduct in one of them
        return use.cells_power * vectors * use.reads_per_vector * read_time
    in_use = {
        "parent": use.arrays,
        "row": use.counted("driven_rows"),
        "column": use.counted("used_columns"),
        "cell": use.counted("cells_used"),
        "index_bit": use.index_bits,
    }[component.per]
    power = hardware.cost_each(component)[0] * component.count / component.shared_by * in_use
    if component.role == "dac":
        power *= hardware.dac_growth.value ** (use.dac_bits - 1)
    if component.per in ("row", "cell"):
        power /= use.row_groups
    if component.role != "idle_detector":
        power *= use.share(_ACTIVE[component.per])
    return power * vectors * hardware.reads_of_vector(use) * read_time


def _layer_work(use: LayerUse, hardware: Hardware, levels: int) -> LayerWork:
    actions = Actions.of(use, hardware)
    read_time = hardware.time_of_read(use)
    energies = []
    for level in hardware.levels[:levels]:
        for component in level.components:
            if component.busy == "always" or (component.role == "idle_detector" and not use.skip_idle):
                continue
            if component.role == "adc":
                assert hardware.adc is not None
                energy = actions.conversion * hardware.adc.energy_per_conversion(use.adc_bits)
            elif component.busy == "read":
                energy = _read_energy(component, use, hardware)
            else:
                assert component.rate is not None
                energy = getattr(actions, component.busy) * hardware.cost_each(component)[0] / component.rate.si
            energies.append(ComponentEnergy(level=level.name, name=component.name, energy=energy))
    reads = hardware.reads_of_vector(use)
    vectors = -(-use.whole_vectors // use.copies) if use.arrays else 0
    return LayerWork(
        use=use,
        actions=actions,
        time=vectors * reads * read_time * use.share("steps"),
        delay=hardware.stages_after_read.value * read_time if vectors else 0.0,
        components=tuple(energies),
    )


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Energy and time of one inference, and what they are made of; see the module for the model.

    Attributes
    ----------
    peak
        The hardware that is occupied, copies included.
    layers
        The layers at work.
    pipelined
        Whether layers work on successive images at once.
    replication
        How layers were copied: ``"none"``, ``"chip"`` or the number of arrays.
    """

    peak: Peak
    layers: tuple[LayerWork, ...]
    pipelined: bool
    replication: Replication | int

    def _static(self) -> list[ComponentEnergy]:
        """Power of what is always on, W, in the place of an energy."""
        card = self.peak.hardware
        on = {
            (level.name, component.name)
            for level in card.levels
            for component in level.components
            if component.busy == "always"
        }
        return [
            ComponentEnergy(level=cost.level, name=cost.name, energy=cost.power)
            for cost in self.peak.components
            if (cost.level, cost.name) in on
        ]

    @property
    def static_power(self) -> float:
        """Power of what is always on, W."""
        return math.fsum(cost.energy for cost in self._static())

    @property
    def dynamic_energy(self) -> float:
        """Energy of the actions of one inference, J."""
        return math.fsum(cost.energy for layer in self.layers for cost in layer.components)

    def _digital(self) -> list[tuple[str, ComponentEnergy]]:
        """Energy of digital operations, J, by use and kind; what has no price is left out."""
        card = self.peak.hardware
        if card.digital is None:
            return []
        prices = {operation: card.digital.energy(operation, card.technology_node.si) for operation in OPERATIONS}
        return [
            (use.name, ComponentEnergy(level="digital", name=name.replace("_", "-"), energy=price * getattr(use, name)))
            for use in self.peak.digital
            for name, price in prices.items()
            if price is not None and getattr(use, name)
        ]

    @property
    def digital_energy(self) -> float:
        """Energy of the digital operations of one inference that the card has prices for, J."""
        return math.fsum(cost.energy for _, cost in self._digital())

    @property
    def energy(self) -> float:
        """Energy of one inference, J: its actions, its priced digital operations, and what is always on meanwhile."""
        return self.dynamic_energy + self.digital_energy + self.static_power * self.interval

    @property
    def latency(self) -> float:
        """From an image's first read to its result, s."""
        return math.fsum(part for layer in self.layers for part in (layer.time, layer.delay))

    @property
    def bottleneck(self) -> tuple[str, float]:
        """What sets the interval, and that time in s: a layer, or a shared component; of equals the first."""
        times = [(layer.use.name, layer.time) for layer in self.layers]
        if not self.pipelined:
            return "latency", self.latency
        counts = {(cost.level, cost.name): cost.count for cost in self.peak.components}
        for level in self.peak.hardware.levels:
            for component in level.components:
                count = counts.get((level.name, component.name), 0.0)
                if component.rate is not None and count:
                    actions = sum(getattr(layer.actions, component.busy) for layer in self.layers)
                    times.append((component.name, actions / (count * component.rate.si)))
        return max(times, key=lambda each: each[1], default=("nothing", 0.0))

    @property
    def interval(self) -> float:
        """Time between two images, s."""
        return self.bottleneck[1]

    @property
    def images_per_second(self) -> float:
        """Achieved rate; 0 where nothing is occupied."""
        return 1 / self.interval if self.interval else 0.0

    @property
    def average_power(self) -> float:
        """Power at the achieved rate, W."""
        return (self.dynamic_energy + self.digital_energy) * self.images_per_second + self.static_power

    @property
    def operations(self) -> float:
        """Operations of one inference on arrays, two a multiply-accumulate; digital ones are not among them."""
        return added(2 * layer.use.macs_per_image for layer in self.layers)

    @property
    def throughput(self) -> float:
        """Achieved operations per second."""
        return self.operations * self.images_per_second

    @property
    def throughput_per_power(self) -> float:
        """Operations per second and watt, the same as operations per joule."""
        return self.throughput / self.average_power if self.average_power else 0.0

    @property
    def throughput_per_area(self) -> float:
        """Achieved operations per second and m2."""
        return self.throughput / self.peak.area if self.peak.area else 0.0

    @property
    def time_utilisation(self) -> float:
        """The part of the time that occupied arrays are read, 0 to 1."""
        hardware = self.peak.hardware
        available = self.peak.units[hardware.levels[0].name] * self.interval
        busy = math.fsum(
            layer.actions.read * hardware.time_of_read(layer.use) for layer in self.layers if layer.use.arrays
        )
        return busy / available if available else 0.0

    @property
    def cell_utilisation(self) -> float:
        """The part of the cells of occupied arrays that hold something, 0 to 1."""
        cells = sum(layer.use.occupied * layer.use.rows * layer.use.columns for layer in self.layers)
        used = sum(layer.use.counted("cells_used") * layer.use.copies * layer.use.redundancy for layer in self.layers)
        return used / cells if cells else 0.0

    @property
    def components(self) -> tuple[ComponentEnergy, ...]:
        """Energy of each component for one inference, what is always on included; they add up to `energy`."""
        energies: dict[tuple[str, str], list[float]] = {}
        for layer in self.layers:
            for cost in layer.components:
                energies.setdefault((cost.level, cost.name), []).append(cost.energy)
        for cost in self._static():
            energies.setdefault((cost.level, cost.name), []).append(cost.energy * self.interval)
        for _, cost in self._digital():
            energies.setdefault((cost.level, cost.name), []).append(cost.energy)
        order = {
            (level.name, component.name): place
            for place, (level, component) in enumerate(
                (level, component) for level in self.peak.hardware.levels for component in level.components
            )
        }
        return tuple(
            ComponentEnergy(level=level, name=name, energy=math.fsum(energies[level, name]))
            for level, name in sorted(energies, key=lambda key: order.get(key, len(order)))
        )

    def summary(self) -> list[dict[str, Any]]:
        """The totals as rows with name, value and unit (SI)."""
        return [
            {"name": name, "value": value, "unit": unit}
            for name, value, unit in (
                ("energy per inference", self.energy, "J"),
                ("latency", self.latency, "s"),
                ("interval", self.interval, "s"),
                ("rate", self.images_per_second, "1/s"),
                ("average power", self.average_power, "W"),
                ("throughput", self.throughput, "op/s"),
                ("throughput per power", self.throughput_per_power, "op/s/W"),
                ("throughput per area", self.throughput_per_area, "op/s/m2"),
                ("arrays busy", self.time_utilisation, "1"),
                ("cells used", self.cell_utilisation, "1"),
                ("digital share", self.peak.digital_share, "1"),
                ("digital energy", self.digital_energy, "J"),
            )
        ]

    def tree(self) -> dict[str, Any]:
        """The energy of one inference as nested dictionaries with the keys name, energy (J) and children.

        The root's children are the layers, with their components, ``"(digital)"`` where it has a price, and ``"(always
        on)"``.
        """

        def node(name: str, children: list[dict[str, Any]]) -> dict[str, Any]:
            return {"name": name, "energy": math.fsum(child["energy"] for child in children), "children": children}

        parts = [
            node(
                layer.use.name,
                [{"name": cost.name, "energy": cost.energy, "children": []} for cost in layer.components],
            )
            for layer in self.layers
        ]
        on = [{"name": cost.name, "energy": cost.energy * self.interval, "children": []} for cost in self._static()]
        digital = [
            {"name": f"{name}: {cost.name}", "energy": cost.energy, "children": []} for name, cost in self._digital()
        ]
        if digital:
            parts.append(node("(digital)", digital))
        return node(self.peak.hardware.name, [*parts, node("(always on)", on)])

    @entrance
    def to_rows(self, by: Literal["part", "component", "layer"] = "layer") -> list[dict[str, Any]]:
        """The energy as rows, ready for a data frame or a CSV file; each of the three views adds up to `energy`.

        Parameters
        ----------
        by
            ``"part"``: one row a component of a layer, and one for each that is always on (then ``layer`` is empty);
            ``"component"``: one row a component; ``"layer"``: one row a layer, with its actions and its time, and one
            for all that is always on. Digital operations with a price have rows of their own in each.
        """
        check_choice("by", by, ("part", "component", "layer"))
        if by == "component":
            return [{"level": cost.level, "component": cost.name, "energy_J": cost.energy} for cost in self.components]
        if by == "part":
            parts = [(layer.use.name, cost, 1.0) for layer in self.layers for cost in layer.components]
            parts += [(name, cost, 1.0) for name, cost in self._digital()]
            parts += [("", cost, self.interval) for cost in self._static()]
            return [
                {"layer": layer, "level": cost.level, "component": cost.name, "energy_J": cost.energy * scale}
                for layer, cost, scale in parts
            ]
        names = list(Actions.__dataclass_fields__)
        rows = [
            {
                "layer": layer.use.name,
                "arrays": layer.use.occupied,
                "copies": layer.use.copies,
                "energy_J": layer.energy,
                "time_s": layer.time,
                "delay_s": layer.delay,
                "input_activity": None if layer.use.activity is None else layer.use.activity.inputs,
                "reads_made": layer.use.share("reads"),
            }
            | {f"{name}s": getattr(layer.actions, name) for name in names}
            for layer in self.layers
        ]
        others = {"(digital)": self.digital_energy, "(always on)": self.static_power * self.interval}
        if not self._digital():
            del others["(digital)"]
        return rows + [
            {
                "layer": layer,
                "arrays": 0,
                "copies": 0,
                "energy_J": energy,
                "time_s": 0.0,
                "delay_s": 0.0,
                "input_activity": None,
                "reads_made": 0.0,
            }
            | {f"{name}s": 0 for name in names}
            for layer, energy in others.items()
        ]

    @entrance
    def to_frame(self, by: Literal["part", "component", "layer"] = "layer") -> Any:
        """:meth:`to_rows` as a pandas data frame; `ImportError` where pandas is not installed."""
        return frame(self.to_rows(by))

    def _repr_html_(self) -> str:
        return html_tree(self.tree(), {"energy": ("energy (uJ)", 1e-6)})

    def __str__(self) -> str:
        energy = self.energy
        name, interval = self.bottleneck
        lines = [
            f"One inference on {self.peak.hardware.name}, "
            f"{'layers on successive images at once' if self.pipelined else 'one image at a time'}, "
            f"{self.peak.units[self.peak.hardware.levels[0].name]:,} arrays"
            + ("" if self.replication == "none" else f" (copies to fill {self.replication})"),
            "",
            format_table(
                ("level", "component", "energy (uJ)", "share"),
                [
                    (cost.level, cost.name, number(cost.energy / 1e-6), percent(cost.energy, energy))
                    for cost in self.components
                ],
                left=2,
            ),
            "",
            format_table(
                (
                    "layer",
                    "copies",
                    "inputs not 0",
                    "reads made",
                    "conversions",
                    "buffer (KB)",
                    "energy (uJ)",
                    "time (us)",
                ),
                [
                    (
                        layer.use.name,
                        f"{layer.use.copies:,}",
                        "-" if layer.use.activity is None else f"{layer.use.activity.inputs:.1%}",
                        f"{layer.use.share('reads'):.1%}",
                        count(layer.actions.conversion),
                        number(layer.actions.buffer_bit / 8e3),
                        number(layer.energy / 1e-6),
                        number(layer.time / 1e-6),
                    )
                    for layer in self.layers
                ],
                left=1,
            ),
            "",
            f"energy per inference  {number(energy / 1e-6)} uJ "
            f"({percent(self.static_power * interval, energy)} always on)",
            f"latency               {number(self.latency / 1e-6)} us",
            f"interval              {number(interval / 1e-6)} us, set by {name}",
            f"rate                  {number(self.images_per_second)} images/s",
            f"average power         {number(self.average_power / 1e-3)} mW",
            f"throughput            {number(self.throughput / 1e12)} Top/s "
            f"of {number(self.peak.peak_throughput / 1e12)}",
            f"per power             {number(self.throughput_per_power / 1e12)} Top/s/W",
            f"per area              {number(self.throughput_per_area * 1e-6 / 1e12)} Top/s/mm2",
            f"utilisation           arrays busy {self.time_utilisation:.1%} of the time, {self.cell_utilisation:.1%} "
            "of their cells used",
        ]
        if self.peak.digital:
            unpriced = "" if self._digital() else ", not in the energy"
            lines.append(f"digital               {self.peak.digital_share:.1%} of all multiply-accumulates{unpriced}")
        lines += [f"note: {note}" for note in self.peak.notes if "digital" in note]
        return "\n".join(lines)


@entrance
def run_workload(peak: Peak, *, replication: Replication | int = "none", pipelined: bool = True) -> Workload:
    """One inference on the hardware of a peak; arguments and errors of :meth:`xbarsim.cost.CostReport.workload`."""
    check_instance("pipelined", pipelined, bool)
    hardware, uses = peak.hardware, [layer.use for layer in peak.layers]
    if isinstance(replication, str):
        check_choice("replication", replication, ("none", "chip"))
    if replication != "none":
        needed = sum(use.arrays * use.redundancy for use in uses)
        if replication == "chip":
            chip = hardware.arrays_per(hardware.levels[-1].name)
            budget = chip * -(-needed // chip)
        else:
            if isinstance(replication, bool) or not isinstance(replication, int):
                raise InputError(f"replication must be 'none', 'chip' or a number of arrays, got {replication!r}")
            budget = check_integer("replication", replication, at_least=needed)
        uses = replicate(uses, hardware, budget)
        peak = peak.with_uses(uses)
    return Workload(
        peak=peak,
        layers=tuple(_layer_work(use, hardware, len(peak.units)) for use in uses),
        pipelined=pipelined,
        replication=replication,
    )
