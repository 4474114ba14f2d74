//! The scenes of the world: things with four attributes on a background.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::stream::{Stream, mix};

/// One or two things on a plain background.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// The colour of the background.
    pub background: Colour,
    /// One thing anywhere, or two at opposite positions: left before right, top before bottom.
    pub things: Vec<Thing>,
}

/// One flat thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// Its silhouette.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Its size. A large thing is a little smaller beside another thing.
    pub size: Size,
    /// Its position.
    pub position: Position,
}

impl Thing {
    /// The pairs of shape and colour that no training shows, 4 of 32: each shape and four colours once. A model that
    /// draws them has learned shapes and colours apart.
    pub const UNSEEN: [(Shape, Colour); 4] = [
        (Shape::Circle, Colour::Purple),
        (Shape::Square, Colour::Orange),
        (Shape::Triangle, Colour::Yellow),
        (Shape::Cross, Colour::White),
    ];
}

impl Scene {
    /// A random scene: 70 % have one thing, 30 % two, and two things always differ in colour.
    pub fn random(stream: &mut Stream) -> Scene {
        let background = stream.choose(&Colour::ALL);
        let positions: &[Position] = if stream.chance(0.7) {
            &[stream.choose(&Position::ALL)]
        } else if stream.chance(0.5) {
            &[Position::Left, Position::Right]
        } else {
            &[Position::Top, Position::Bottom]
        };
        let mut taken = vec![background];
        let mut things = Vec::with_capacity(positions.len());
        for &position in positions {
            let free: Vec<Colour> = Colour::ALL.into_iter().filter(|colour| !taken.contains(colour)).collect();
            let colour = stream.choose(&free);
            taken.push(colour);
            things.push(Thing { shape: stream.choose(&Shape::ALL), colour, size: stream.choose(&Size::ALL), position });
        }
        Scene { background, things }
    }

    /// Whether the scene belongs to the world: every thing differs from the background in colour; two things differ in
    /// colour or shape, and are at left and right, or top and bottom, in this order.
    pub fn valid(&self) -> bool {
        let visible = self.things.iter().all(|thing| thing.colour != self.background);
        let placed = match self.things.as_slice() {
            [_] => true,
            [first, second] => {
                let opposite = matches!(
                    (first.position, second.position),
                    (Position::Left, Position::Right) | (Position::Top, Position::Bottom)
                );
                opposite && (first.colour, first.shape) != (second.colour, second.shape)
            }
            _ => false,
        };
        visible && placed
    }

    /// Whether the scene may be trained on: it is not held out, and has no unseen pair.
    pub fn trained_on(&self) -> bool {
        !self.held_out() && !self.unseen_pair()
    }

    /// Whether one of the things has a shape and a colour that training never shows together ([`Thing::UNSEEN`]).
    pub fn unseen_pair(&self) -> bool {
        self.things.iter().any(|thing| Thing::UNSEEN.contains(&(thing.shape, thing.colour)))
    }

    /// Whether the scene is held out, that is, never trained on. About one scene in ten is, by a hash of its attributes
    /// (FNV-1a), so the choice is the same everywhere and for every jitter.
    pub fn held_out(&self) -> bool {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        eat(self.background as u8);
        for thing in &self.things {
            eat(thing.shape as u8);
            eat(thing.colour as u8);
            eat(thing.size as u8);
            eat(thing.position as u8);
        }
        mix(hash).is_multiple_of(10)
    }
}

/// An attribute: an enum of its values, with the words of captions.
macro_rules! attribute {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$what])* $value,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$value),+];

            /// The word in captions.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$value => $word,)+
                }
            }

            /// The value of a word; `None` for other words.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$value),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

attribute! {
    /// A silhouette.
    Shape {
        /// A disc.
        Circle = "circle",
        /// A square with horizontal and vertical sides.
        Square = "square",
        /// A triangle, apex up.
        Triangle = "triangle",
        /// An upright cross with arms of equal length.
        Cross = "cross",
    }
}

attribute! {
    /// A colour of the palette; every two are more than 90 apart in RGB.
    Colour {
        /// 220, 40, 40
        Red = "red",
        /// 30, 160, 60
        Green = "green",
        /// 40, 80, 220
        Blue = "blue",
        /// 250, 230, 50
        Yellow = "yellow",
        /// 150, 50, 190
        Purple = "purple",
        /// 250, 140, 20
        Orange = "orange",
        /// 245, 245, 245
        White = "white",
        /// 25, 25, 25
        Black = "black",
    }
}

attribute! {
    /// A size.
    Size {
        /// About a quarter of the picture's side across.
        Small = "small",
        /// About 45 % of the side across, or 38 % beside another thing.
        Large = "large",
    }
}

attribute! {
    /// A position in the frame.
    Position {
        /// Left of the centre.
        Left = "left",
        /// Right of the centre.
        Right = "right",
        /// Above the centre.
        Top = "top",
        /// Below the centre.
        Bottom = "bottom",
        /// The centre.
        Centre = "centre",
    }
}

impl Colour {
    /// Its red, green and blue.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Colour::Red => [220, 40, 40],
            Colour::Green => [30, 160, 60],
            Colour::Blue => [40, 80, 220],
            Colour::Yellow => [250, 230, 50],
            Colour::Purple => [150, 50, 190],
            Colour::Orange => [250, 140, 20],
            Colour::White => [245, 245, 245],
            Colour::Black => [25, 25, 25],
        }
    }
}
