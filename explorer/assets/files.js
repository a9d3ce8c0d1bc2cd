// Files that a browser makes: how they are saved, and how a PNG says where it is from.
const save = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

const crc = (bytes) => ~bytes.reduce((sum, byte) => {
  sum ^= byte;
  for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 && 0xedb88320);
  return sum;
}, ~0) >>> 0;

// A text stands in a chunk of its own behind the header: https://www.w3.org/TR/png-3/#11iTXt
const withText = async (blob, text) => {
  const png = new Uint8Array(await blob.arrayBuffer());
  const body = new TextEncoder().encode(`iTXtDescription\0\0\0\0\0${text}`);
  const chunk = new DataView(new ArrayBuffer(body.length + 8));
  chunk.setUint32(0, body.length - 4);
  body.forEach((byte, at) => chunk.setUint8(4 + at, byte));
  chunk.setUint32(4 + body.length, crc(body));
  return new Blob([png.slice(0, 33), chunk.buffer, png.slice(33)], { type: "image/png" });
};

// An SVG of its own, as a PNG of twice its size on a colour.
const rastered = async (source, colour) => {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done));
};

