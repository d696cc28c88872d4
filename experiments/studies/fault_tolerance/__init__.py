"""Which rate of stuck cells a network survives, by what is known of the die, and what the repair costs.

``python -m xbarsim.experiments.studies.fault_tolerance`` measures ResNet-20 on CIFAR-10 (with ``--network`` ConvNet and
LeNet-5 too) with weights of 9 bits on arrays of 128 x 128 cells, whose inputs have 8 bits in one read and whose
converters have 9 bits, or 8 for 2-bit cells, and writes tables and pictures into experiments/figures. What is measured
is kept in a store, so that a run that was cut short goes on where it stopped; ``--part`` names what to measure:

===========  ==========================================================================================================
table        what is tolerated by what is known: nothing, images, a map, an imperfect map
methods      every method on its own and together, both polarities (E1, E2)
diagnosis    coverage and false alarms of the test (E3)
patterns     clusters, lines, measured maps at equal rates (E4, E8)
wires        repaired dies with wires and with programming errors (E6)
training     training with faults, with and without repair (E7)
factors      mapping, full scale, pruning, faulty layers: what "almost 10 x" is made of
===========  ==========================================================================================================

Costs (E5) stand in every row: bits stored, cells rewritten, digital operations, energy and area.

Points lost are those against the network as it was trained, quantised but without faults and converters, on the same
images. Published claims and anchors are listed in docs/repair.md beside what this study measures.
"""
