"""The ten objects: functions of a random generator that give lists of parts from back to front, in any units."""

import math

import numpy as np

from revisit_ssl.scenes.shapes import Part, Shape, box, cut, ellipse, line, polygon, top_half, union


def house(rng):
    half, roof, over = rng.uniform(0.34, 0.52), rng.uniform(0.28, 0.5), rng.uniform(0.03, 0.1)
    parts = []
    if rng.random() < 0.6:
        x = half * rng.choice([-1, 1]) * rng.uniform(0.4, 0.75)
        parts.append(Part(box(x - 0.06, roof * rng.uniform(0.1, 0.35), x + 0.06, roof), 2))
    parts.append(Part(box(-half, roof - 0.01, half, 1), 0, True))
    flat = rng.choice([0.0, rng.uniform(0.2, 0.6)]) * half
    tip = rng.uniform(-0.15, 0.15) * half
    parts.append(
        Part(
            polygon((-half - over, roof), (tip - flat - 0.02, 0), (tip + flat + 0.02, 0), (half + over, roof)), 1, True
        )
    )
    door, height = rng.uniform(0.07, 0.11), rng.uniform(0.26, 0.34)
    x = rng.uniform(-0.5, 0.5) * half
    parts.append(Part(box(x - door, 1 - height, x + door, 1, rng.choice([0, 0.07])), 2))
    pane = rng.uniform(0.06, 0.09)
    rows = [roof + 0.13, roof + 0.36] if roof < 0.4 and rng.random() < 0.5 else [roof + 0.15]
    for y in rows:
        for side in (-1, 1):
            wx = side * half * 0.62
            if abs(wx - x) > door + pane + 0.02 or y + pane < 1 - height - 0.02:
                parts.append(Part(box(wx - pane, y - pane, wx + pane, y + pane), 3))
    return parts


def tree(rng):
    trunk, start = rng.uniform(0.04, 0.075), rng.uniform(0.5, 0.68)
    parts = [Part(polygon((-trunk, 0.3), (trunk, 0.3), (trunk * 1.4, 1), (-trunk * 1.4, 1)), 1)]
    kind = rng.integers(3)
    if kind == 0:  # round, of several balls
        wide = rng.uniform(0.26, 0.38)
        balls = [ellipse(0, start / 2, wide * 0.85, start / 2)]
        for _ in range(rng.integers(2, 6)):
            angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.13, 0.2)
            y = start / 2 + math.sin(angle) * start * 0.3
            balls.append(ellipse(math.cos(angle) * wide * 0.75, max(y, r), r))
        parts.append(Part(union(*balls), 0, True))
    elif kind == 1:  # fir
        tiers, wide, bottom = rng.integers(2, 5), rng.uniform(0.28, 0.4), rng.uniform(0.75, 0.86)
        tiers_ = []
        for i in range(tiers):
            low = bottom * (i + 1) / tiers
            half = wide * (0.45 + 0.55 * (i + 1) / tiers)
            tiers_.append(polygon((-half, low), (0, bottom * max(0, i - 0.45) / tiers), (half, low)))
        parts.append(Part(union(*tiers_), 0, True))
    else:  # poplar, egg-shaped
        wide, low = rng.uniform(0.17, 0.26), rng.uniform(0.72, 0.82)
        parts.append(Part(ellipse(0, low / 2, wide, low / 2), 0, True))
    if rng.random() < 0.4 and kind != 1:
        for _ in range(rng.integers(3, 8)):
            x, y = rng.uniform(-0.16, 0.16), start / 2 + rng.uniform(-0.2, 0.2)
            parts.append(Part(ellipse(x, y, 0.035), 2))
    return parts


def car(rng):
    half, top, belt, floor = rng.uniform(0.66, 0.82), 0.0, rng.uniform(0.36, 0.46), rng.uniform(0.78, 0.84)
    front, back = rng.uniform(0.1, 0.45), rng.uniform(0.02, 0.4)  # how far the roof stands back from the bumpers
    slope_f, slope_b = rng.uniform(0.1, 0.25), rng.uniform(0.02, 0.18)
    x0, x1 = -half + back * half, half - front * half
    parts = [
        Part(polygon((x0, belt + 0.1), (x0 + slope_b, top), (x1 - slope_f, top), (x1, belt + 0.1)), 0),
        Part(box(-half, belt, half, floor, rng.uniform(0.06, 0.16)), 0, True),
    ]
    mid = (x0 + x1) / 2 + rng.uniform(-0.06, 0.06)
    for a, b, sa, sb in ((x0 + 0.07, mid - 0.025, slope_b * 0.8, 0), (mid + 0.025, x1 - 0.07, 0, slope_f * 0.8)):
        parts.append(Part(polygon((a, belt), (a + sa, top + 0.08), (b - sb, top + 0.08), (b, belt)), 3))
    wheel = rng.uniform(0.15, 0.2)
    for x in (-half * rng.uniform(0.52, 0.62), half * rng.uniform(0.52, 0.62)):
        parts.append(Part(ellipse(x, 1 - wheel, wheel), 2))
        parts.append(Part(ellipse(x, 1 - wheel, wheel * 0.45), 1))
    parts.append(Part(box(half - 0.1, belt + 0.07, half - 0.01, belt + 0.17, 0.04), 1))
    return parts


def lamp(rng):
    shade, narrow, wide = rng.uniform(0.28, 0.45), rng.uniform(0.08, 0.2), rng.uniform(0.27, 0.4)
    stem, base = rng.uniform(0.02, 0.045), rng.uniform(0.16, 0.28)
    parts = [Part(line(0, shade - 0.05, 0, 0.95, stem), 1)]
    if rng.random() < 0.5:  # a vase for a foot
        parts.append(Part(ellipse(0, rng.uniform(0.68, 0.78), base * 0.6, 0.17), 2, True))
    if rng.random() < 0.5:
        parts.append(Part(top_half(ellipse(0, 1, base, rng.uniform(0.08, 0.16)), 1), 1))
    else:
        parts.append(Part(box(-base, 0.94, base, 1, 0.02), 1))
    if rng.random() < 0.75:
        parts.append(Part(polygon((-wide, shade), (-narrow, 0), (narrow, 0), (wide, shade)), 0, True))
    else:
        parts.append(Part(top_half(ellipse(0, shade, wide, shade), shade), 0, True))
    if rng.random() < 0.6:
        parts.append(Part(box(-wide, shade - 0.045, wide, shade), 3))
    if rng.random() < 0.4:  # pull chain
        x = wide * 0.5
        parts.append(Part(line(x, shade, x, shade + 0.14, 0.012), 3))
    return parts


def person(rng):
    head, hip = rng.uniform(0.085, 0.11), rng.uniform(0.55, 0.62)
    neck, chest = 2 * head - 0.01, rng.uniform(0.1, 0.14)
    leg, stance = rng.uniform(0.045, 0.06), rng.uniform(0.05, 0.13)
    parts = []
    for side in (-1, 1):
        foot = side * (stance + rng.uniform(0, 0.05))
        parts.append(Part(line(side * 0.06, hip, foot, 0.95, leg, leg * 0.8), 1))
        parts.append(Part(line(foot, 0.965, foot + 0.05, 0.965, 0.035), 2))
    for side in (-1, 1):  # arms hang, stretch out, or go up
        angle = rng.choice([rng.uniform(0.2, 0.6), rng.uniform(1.1, 1.7), rng.uniform(2.2, 2.7)], p=[0.6, 0.25, 0.15])
        reach = rng.uniform(0.26, 0.32)
        x, y = side * (chest - 0.01), neck + 0.06
        hand = (x + side * reach * math.sin(angle), y + reach * math.cos(angle))
        parts.append(Part(line(x, y, *hand, 0.04, 0.032), 0))
        parts.append(Part(ellipse(*hand, 0.037), 3))
    if rng.random() < 0.4:  # a dress
        hem = rng.uniform(0.16, 0.24)
        parts.append(
            Part(polygon((-chest * 0.7, neck), (chest * 0.7, neck), (hem, hip + 0.16), (-hem, hip + 0.16)), 0, True)
        )
    else:
        parts.append(Part(box(-chest, neck, chest, hip + 0.03, 0.06), 0, True))
    parts.append(Part(ellipse(0, head, head * 0.88, head), 3))
    if rng.random() < 0.5:  # a hat
        parts.append(Part(box(-head * 1.4, head * 0.55, head * 1.4, head * 0.8, 0.02), 2))
        parts.append(Part(box(-head * 0.75, -0.07, head * 0.75, head * 0.6, 0.04), 2))
    else:  # hair
        parts.append(Part(top_half(ellipse(0, head, head * 0.95, head * 1.05), head * 0.75), 2))
    return parts


def boat(rng):
    half, keel, deck = rng.uniform(0.42, 0.6), rng.uniform(0.45, 0.75), rng.uniform(0.72, 0.8)
    bow = rng.uniform(0, 0.08)
    hull = polygon((-half, deck), (half + bow, deck - 0.02), (half * keel, 1), (-half * keel, 1))
    parts = []
    if rng.random() < 0.7:  # sails
        mast = rng.uniform(-0.12, 0.12)
        parts.append(Part(line(mast, 0.01, mast, deck, 0.018), 2))
        boom, foot = deck - rng.uniform(0.05, 0.1), rng.uniform(0.03, 0.06)
        reach = rng.uniform(0.75, 0.95) * half
        parts.append(Part(polygon((mast + 0.025, foot), (mast + 0.025, boom), (mast + reach - 0.1, boom)), 1, True))
        if rng.random() < 0.7:
            parts.append(
                Part(polygon((mast - 0.025, foot + 0.1), (mast - 0.025, boom), (mast - reach * 0.75, boom)), 3)
            )
        else:
            parts.append(Part(polygon((mast, 0), (mast - 0.16, 0.05), (mast, 0.1)), 3))
    else:  # a steamer
        cabin, x = rng.uniform(0.2, 0.3), rng.uniform(-0.12, 0.05)
        roof = rng.uniform(0.36, 0.48)
        funnel = rng.uniform(0.06, 0.09)
        parts.append(Part(box(x - funnel, 0, x + funnel, roof + 0.02), 2))
        parts.append(Part(box(x - funnel, 0.07, x + funnel, 0.15), 3))
        parts.append(Part(box(x - cabin, roof, x + cabin, deck + 0.02), 1, True))
        for i in (-1, 0, 1):
            parts.append(Part(ellipse(x + i * cabin * 0.6, roof + 0.13, 0.05), 3))
    parts.append(Part(hull, 0, True))
    if rng.random() < 0.6:
        parts.append(
            Part(
                polygon(
                    (-half, deck), (half + bow, deck - 0.02), (half * 0.96, deck + 0.06), (-half * 0.94, deck + 0.06)
                ),
                2,
            )
        )
    return parts


def cup(rng):
    top, bottom, rim = rng.uniform(0.42, 0.56), rng.uniform(0.24, 0.42), rng.uniform(0.08, 0.13)
    low = 0.97
    ring_x, ring_y = top * 0.93, rng.uniform(0.42, 0.52)
    ring_r = rng.uniform(0.19, 0.26)
    parts = [
        Part(
            cut(ellipse(ring_x, ring_y, ring_r, ring_r * 1.15), ellipse(ring_x, ring_y, ring_r * 0.6, ring_r * 0.7)),
            1,
        )
    ]
    if rng.random() < 0.4:  # saucer
        parts.append(Part(ellipse(0, 0.93, top * 1.35, 0.07), 2))
        low = 0.93
    if rng.random() < 0.6:  # straight or tapering mug
        parts.append(
            Part(
                union(
                    polygon((-top, rim), (top, rim), (bottom, low - 0.04), (-bottom, low - 0.04)),
                    ellipse(0, low - 0.05, bottom, 0.06),
                ),
                0,
                True,
            )
        )
    else:  # bowl
        bowl = ellipse(0, rim, top, low - rim)
        below = Shape(lambda u, v: np.maximum(bowl.distance(u, v), rim - v), (-top, rim, top, low))
        parts.append(Part(union(below, box(-bottom * 0.6, low - 0.08, bottom * 0.6, low)), 0, True))
    parts.append(Part(ellipse(0, rim, top, rim), 0))
    parts.append(Part(ellipse(0, rim * 1.05, top * 0.86, rim * 0.72), 3))
    return parts


def chair(rng):
    half, seat, leg = rng.uniform(0.24, 0.34), rng.uniform(0.52, 0.6), rng.uniform(0.028, 0.045)
    thick, depth = rng.uniform(0.06, 0.09), rng.uniform(0.08, 0.14)
    skew = rng.uniform(0.05, 0.2)  # the seat runs forward and to one side
    parts = [Part(line(x, seat, x + 0.02, 0.9, leg), 2) for x in (-half + leg, half - leg)]
    kind = rng.integers(3)
    for x in (-half + leg, half - leg):
        parts.append(Part(line(x, leg, x, seat + 0.02, leg), 0))
    if kind == 0:
        parts.append(Part(box(-half, 0.02, half, rng.uniform(0.3, 0.46), 0.06), 1, True))
    elif kind == 1:
        for y in np.linspace(0.08, seat - 0.14, rng.integers(2, 4)):
            parts.append(Part(box(-half, y - 0.045, half, y + 0.045, 0.02), 1))
    else:
        parts.append(Part(box(-half, 0, half, 0.11, 0.04), 1))
        for x in np.linspace(-half + 0.12, half - 0.12, rng.integers(2, 4)):
            parts.append(Part(line(x, 0.08, x, seat, 0.025), 1))
    front = seat + depth
    for x in (-half + leg + skew, half - leg + skew):
        parts.append(Part(line(x, front, x, 1 - leg, leg), 0))
    parts.append(Part(polygon((-half, seat), (half, seat), (half + skew, front), (-half + skew, front)), 3, True))
    parts.append(Part(box(-half + skew, front - 0.01, half + skew, front - 0.01 + thick, 0.02), 0))
    return parts


def bottle(rng):
    half, neck, shoulder = rng.uniform(0.14, 0.24), rng.uniform(0.05, 0.075), rng.uniform(0.3, 0.46)
    slope = rng.uniform(0.06, 0.2)
    cap = rng.uniform(0.06, 0.12)
    body = rng.integers(3)
    if body == 0:
        glass = box(-half, shoulder, half, 1, 0.05)
        joint = polygon(
            (-neck, shoulder - slope), (neck, shoulder - slope), (half, shoulder + 0.04), (-half, shoulder + 0.04)
        )
    elif body == 1:  # a flask
        half *= 1.3
        glass = ellipse(0, (shoulder + 1) / 2 - 0.02, half, (1.04 - shoulder) / 2)
        joint = box(-half * 0.55, 0.94, half * 0.55, 1, 0.02)
    else:  # round shoulders
        glass = box(-half, shoulder, half, 1, 0.05)
        joint = ellipse(0, shoulder + 0.03, half, slope + 0.06)
    throat = box(-neck, 0.02, neck, shoulder + 0.06)
    parts = [Part(union(throat, glass, joint), 0, rng.random() < 0.4)]
    parts.append(Part(box(-neck - 0.02, 0, neck + 0.02, cap, 0.015), 2))
    if rng.random() < 0.75:
        top = rng.uniform(shoulder + 0.12, shoulder + 0.22)
        parts.append(Part(box(-half * 0.9, top, half * 0.9, top + rng.uniform(0.14, 0.24), 0.02), 1, True))
    return parts


def mushroom(rng):
    half, cap, stem = rng.uniform(0.36, 0.52), rng.uniform(0.34, 0.5), rng.uniform(0.09, 0.14)
    foot = stem * rng.uniform(1.1, 1.7)
    parts = [
        Part(
            union(
                polygon((-stem, cap - 0.06), (stem, cap - 0.06), (foot, 0.94), (-foot, 0.94)),
                ellipse(0, 0.94, foot, 0.06),
            ),
            1,
        )
    ]
    if rng.random() < 0.5:  # a ring on the stem
        parts.append(Part(ellipse(0, cap + rng.uniform(0.12, 0.2), stem * 1.35, 0.04), 3))
    rim = rng.uniform(0.03, 0.09)
    parts.append(Part(ellipse(0, cap, half * 0.97, rim), 3))
    dome = top_half(ellipse(0, cap, half, cap), cap)
    if rng.random() < 0.3:  # pointed cap
        dome = polygon((-half, cap), (-half * 0.42, cap * 0.3), (0, 0.02), (half * 0.42, cap * 0.3), (half, cap))
    parts.append(Part(dome, 0, True))
    if rng.random() < 0.6:
        for _ in range(rng.integers(3, 7)):
            angle, far = rng.uniform(np.pi * 1.1, np.pi * 1.9), rng.uniform(0.25, 0.75)
            x, y = math.cos(angle) * half * far, cap + math.sin(angle) * cap * far
            parts.append(Part(ellipse(x, y, rng.uniform(0.035, 0.065), 0.04), 2))
    return parts


OBJECTS = {
    "house": house,
    "tree": tree,
    "car": car,
    "lamp": lamp,
    "person": person,
    "boat": boat,
    "cup": cup,
    "chair": chair,
    "bottle": bottle,
    "mushroom": mushroom,
}
