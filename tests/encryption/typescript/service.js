// Reads {key, encrypt: [value], decrypt: [data]} on stdin; answers with what the package makes.
const {
  LibSodiumEncryptionService,
} = require("@inngest/middleware-encryption/strategies/libSodium");

let input = "";
process.stdin.on("data", (chunk) => (input += chunk));
process.stdin.on("end", async () => {
  const { key, encrypt, decrypt } = JSON.parse(input);
  const service = new LibSodiumEncryptionService(key);
  const sealed = [];
  for (const value of encrypt) sealed.push(await service.encrypt(value));
  const opened = [];
  for (const data of decrypt) opened.push(await service.decrypt(data));
  process.stdout.write(JSON.stringify({ sealed, opened }));
});
