"""Which of SocioSeg's three levels a question belongs to; the data set itself has no such column."""

FUNCTIONS = (
    "Commercial service",
    "Sport and cultural",
    "Administrative",
    "Park and greenspace",
    "Business office",
    "Transportation stations",
    "Educational",
    "Industrial",
    "Medical",
    "Residential",
)
"""The ten socio-functions of SocioSeg."""

_POINT_OF_INTEREST_CLASSES = """
Airport; Apartment Building; Aquarium; Archives Hall; Art Gallery; Bank; Bar; Botanical Garden; Building Materials
Market; Bus Station; Business Office Building; Car Repair; Car Sales; Car Service; Cemetery; Charging Station; Chemical
Plant; Church; Cinema; Clinic; Coach Station; Coffee House; College; Commercial Street; Company; Concert Hall;
Convenience Store; Convention Center; Court; Cultural Palace; Customs; Dental Clinic; Department Store; Disease
Prevention Institution; Dormitory; Driving School; Embassy; Emergency Center; Exhibition Hall; Express Delivery;
Factory; Farm; Fast Food Restaurant; Ferry Terminal; Fire Station; Furniture Market; Gas Station; General Hospital;
Golf Course; Governmental Organization; Government Agency; Guest House; Gymnasium; High School; Hospital; Hotel;
Industrial Park; Insurance Company; Kindergarten; Laboratory; Library; Logistics Center; Market; Media Organization;
Memorial Hall; Metro Station; Middle School; Mosque; Motorcycle Service; Museum; Nursing Home; Office Building; Park;
Parking Lot; Pharmacy; Planetarium; Playground; Plaza; Police Station; Port; Post Office; Power Plant; Primary School;
Public Security Organization; Railway Station; Recreation Center; Research Institution; Residential Area; Residential
Community; Resort; Restaurant; Retirement Home; Scenic Spot; School; Science Museum; Securities Company; Shopping Mall;
Social Organization; Specialized Hospital; Sports Center; Sports Stadium; Square; Stadium; Subway Station; Supermarket;
Swimming Pool; Teahouse; Temple; Theater; Theme Park; Toll Station; Training Institution; University; Vegetable Market;
Veterinary Hospital; Villa; Vocational School; Warehouse; Water Park; Waterworks; Wholesale Market; Zoo
"""

_FUNCTION_KEYS = frozenset(name.casefold() for name in FUNCTIONS)
_CLASS_KEYS = frozenset(" ".join(name.split()).casefold() for name in _POINT_OF_INTEREST_CLASSES.split(";"))


def level_of(question: str) -> str:
    """Tell the level of a bare concept by the rule that needs no level column.

    One of the ten function strings is a function, a known class string is a class, anything else a name. Case and
    runs of white space do not matter. Data with classes of its own says the level itself: a `level` key in
    question.json or a `level` column.

    Args:
        question: The concept asked for.

    Returns:
        "name", "class" or "function".
    """
    key = " ".join(question.split()).casefold()
    if key in _FUNCTION_KEYS:
        return "function"
    return "class" if key in _CLASS_KEYS else "name"
